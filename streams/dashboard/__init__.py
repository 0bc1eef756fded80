"""The page at `/`: the status of one worker for people, with charts of the last fifteen minutes.

`history` remembers, `charts` draws, `page` puts both and the document of `/stats` into a template; `assets` holds the
style sheet and the script. Everything is made when somebody looks, but for the history's sample each five seconds.
"""
