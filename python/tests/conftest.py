import os

os.environ.setdefault("KEEL_THREADS", "2")
