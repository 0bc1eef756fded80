import os, subprocess, sys, time, signal
from tests.services.producer import EventProducer
from tests.services.archive import *
from tests.services.waiting import wait_until
def test_probe(own_broker, start_worker, archive, group):
    own_broker.create_topic("orders.1")
    e = EventProducer(own_broker.bootstrap_servers).produce("orders.1", [b"1"]*5)
    w = start_worker("^orders\\..*", {"STREAMS_KAFKA_BOOTSTRAP_SERVERS": own_broker.bootstrap_servers, "STREAMS_LOG_LEVEL": "debug"}, app="tests.integration.apps.quick_topic_refresh")
    wait_until(lambda: own_broker.committed_offsets(group), 10, "x")
    own_broker.kill()
    wait_until(lambda: "could not look for new topics" in w.log(), 20, w.log_tail)
    own_broker.start()
    print("started", time.strftime("%H:%M:%S"))
    own_broker.create_topic("orders.2")
    print(EventProducer(own_broker.bootstrap_servers).produce("orders.1", [b"1"]*5))
    print("produced", time.strftime("%H:%M:%S"))
    for i in range(30):
        time.sleep(1)
        print(time.strftime("%H:%M:%S"), w.stats()["partitions"], own_broker.committed_offsets(group), own_broker.group_members(group))
    os.kill(w.pid, signal.SIGUSR1)
    time.sleep(1)
    print("END", time.strftime("%H:%M:%S"))
    assert 0
