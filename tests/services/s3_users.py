"""Users with less than all rights on the real S3 server: versitygw's own accounts and the bucket's policy."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.services.install import VERSITYGW
from tests.services.s3 import ACCESS_KEY, REGION, SECRET_KEY, S3Server

USER_ACCESS_KEY = "streams-limited"
USER_SECRET_KEY = "streams-limited-secret"


class S3ServerWithUsers(S3Server):
    """A server that knows a second account, `USER_ACCESS_KEY`, which may do what `allow` says and nothing else."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._accounts = directory / "accounts"
        self._accounts.mkdir(exist_ok=True)

    def start(self, timeout_seconds: float = 30) -> None:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("VGW_IAM_DIR", str(self._accounts))
            super().start(timeout_seconds)
        self._create_user()

    def user_environment(self) -> dict[str, str]:
        """The variables by which AWS's own credential chain finds the limited account."""
        return {"AWS_ACCESS_KEY_ID": USER_ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": USER_SECRET_KEY, "AWS_REGION": REGION}

    def allow(self, bucket: str, statements: Sequence[tuple[Sequence[str], Sequence[str]]]) -> None:
        """Let the account do these actions on these resources (ARNs) of the bucket; replaces what it might before."""
        document = {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"AWS": [USER_ACCESS_KEY]},
                    "Action": list(actions),
                    "Resource": list(arns),
                }
                for actions, arns in statements
            ],
        }
        self.client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(document))

    def _create_user(self) -> None:
        admin = ["admin", "--access", ACCESS_KEY, "--secret", SECRET_KEY, "--endpoint-url", self.endpoint_url]
        user = ["create-user", "--access", USER_ACCESS_KEY, "--secret", USER_SECRET_KEY, "--role", "user"]
        done = subprocess.run([str(VERSITYGW), *admin, *user], capture_output=True, text=True, check=False)
        if done.returncode != 0 and "exist" not in done.stdout + done.stderr:
            raise AssertionError(f"the account could not be created:\n{done.stdout}{done.stderr}")
