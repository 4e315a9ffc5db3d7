import os

os.environ.setdefault("KEEL_NUM_THREADS", "2")
