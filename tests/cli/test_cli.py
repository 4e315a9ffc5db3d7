#!/usr/bin/env python3
"""The command line from outside: help texts, exit codes, JSON, hostile files, completion, and runs that are killed.

    KEEL_EXE=build/release/apps/keel/keel python3 tests/cli/test_cli.py [CLASS...]
    KEEL_REGENERATE=1 ... test_cli.py Help        # writes tests/golden/help anew
"""
import json
import math
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

KEEL = os.path.abspath(os.environ.get("KEEL_EXE", "build/release/apps/keel/keel"))
GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden", "help")
DATA = os.path.abspath(os.environ.get("KEEL_DATA", "../shared/data"))
OK, FAILED, USAGE, NO_DEVICE, NUMERICAL, INTERRUPTED = 0, 1, 2, 3, 4, 130
SANITIZED = bool(os.environ.get("ASAN_OPTIONS") or os.environ.get("TSAN_OPTIONS"))


def idx(path, values, *shape):
    with open(path, "wb") as f:
        f.write(struct.pack(">BBBB", 0, 0, 8, len(shape)) + struct.pack(">%dI" % len(shape), *shape) + bytes(values))


def small_mnist(folder, train=400, test=100):
    """Stripes whose place is the label, with noise: a data set that is learnt in a second."""
    draw = random.Random(7)
    os.makedirs(os.path.join(folder, "mnist"))
    for name, n in (("train", train), ("t10k", test)):
        labels = [draw.randrange(10) for _ in range(n)]
        pixels = []
        for y in labels:
            for row in range(28):
                pixels += [200 if 2 * y + 3 <= row <= 2 * y + 5 else draw.randrange(40) for _ in range(28)]
        idx(os.path.join(folder, "mnist", name + "-images-idx3-ubyte"), pixels, n, 28, 28)
        idx(os.path.join(folder, "mnist", name + "-labels-idx1-ubyte"), labels, n)


def read(path):
    with open(path, "rb") as f:
        return f.read()


class Case(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="keel_cli_")
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.env = dict(os.environ, KEEL_DATA="data", LC_ALL="C.UTF-8", KEEL_NUM_THREADS="1")
        self.env.pop("KEEL_ISA", None)

    def keel(self, *args, code=OK, **env):
        r = subprocess.run([KEEL, *args], cwd=self.dir, env=dict(self.env, **env), capture_output=True, timeout=300)
        r.out, r.err = r.stdout.decode(), r.stderr.decode()
        self.assertEqual(r.returncode, code, "keel %s\n%s%s" % (" ".join(args), r.out, r.err))
        return r

    def refused(self, code, *args, says="", **env):
        """The message, on stderr, in one line before hints or help."""
        r = self.keel(*args, code=code, **env)
        self.assertEqual(r.out, "")
        first = next(line for line in r.err.split("\n") if not line.startswith("warning: "))  # of a run that is watched
        self.assertTrue(first.startswith("keel"), first)
        self.assertIn(says, r.err)
        return first

    def put(self, name, content):
        path = os.path.join(self.dir, name)
        with open(path, "wb") as f:
            f.write(content if isinstance(content, bytes) else content.encode())
        return path


VERBS = ["", "train", "train mnist", "train char-gpt", "eval", "predict", "sample", "inspect", "precision", "monitor", "bench", "bench peers", "bench monitor", "bench accuracy", "bench faults", "bench model", "bench curve", "doctor", "demo", "completion"]


class Help(Case):
    def test_golden(self):
        for verb in VERBS:
            with self.subTest(verb=verb):
                text = self.keel(*verb.split(), "--help").out
                path = os.path.join(GOLDEN, ("keel " + verb).strip().replace(" ", "-") + ".txt")
                if os.environ.get("KEEL_REGENERATE"):
                    with open(path, "w") as f:
                        f.write(text)
                with open(path) as f:
                    self.assertEqual(text, f.read())
                self.assertLessEqual(len(text.splitlines()), 32, "more than a screen")
                self.assertLessEqual(max(map(len, text.splitlines())), 140)
                self.assertEqual(self.keel(*verb.split(), "-h").out, text)

    def test_every_verb_has_a_golden(self):
        listed = {v for v in VERBS if v and " " not in v}
        shown = {line.split()[0] for line in self.keel("--help").out.split("Subcommands:")[1].splitlines() if line.strip()}
        self.assertEqual(listed, shown)

    def test_usage_errors(self):
        for args, says in [([], "A subcommand is required"), (["trein"], "did you mean 'train'"), (["train"], "A subcommand is required"), (["train", "mnits"], "did you mean 'mnist'"),
                           (["train", "mnist", "--epoch", "3"], "did you mean '--epochs'"), (["train", "mnist", "--epochs", "0"], "at least 1, got 0"),
                           (["train", "mnist", "--epochs", "two"], "at least 1, got two"), (["train", "mnist", "--batch-size", "-4"], "at least 1, got -4"),
                           (["train", "mnist", "--lr", "nan"], "above 0, got nan"), (["train", "mnist", "--model", "resnet"], "not in {mlp,cnn,resnet18,resnet50}"),
                           (["train", "mnist", "--data", "nowhere"], "nowhere"), (["train", "mnist", "--data", "."], "no folder mnist/"), (["train", "mnist", "--resume"], "no checkpoint"),
                           (["train", "mnist", "--device", "gpu0"], "must be cpu, cuda, cuda:N or auto, got gpu0"), (["bench", "model", "gpt2", "--device", "gpu0"], "got gpu0"),
                           (["train", "char-gpt"], "--text is required"), (["train", "char-gpt", "--text", "nothing.txt"], "nothing.txt"),
                           (["bench", "peers", "--only", "speed"], "no row's name holds 'speed'; there are one_add, "), (["bench", "monitor", "--only", "speed"], "there are char-GPT 4x128"),
                           (["bench", "accuracy", "--only", "speed"], "there are MNIST MLP, MNIST CNN, char-GPT"), (["bench", "faults", "--only", "150"], "there is no row 150; the last one is 224"),
                           (["sample", "run", "--temperature", "-1"], "at least 0"), (["inspect"], "required"), (["inspect", "a", "b"], "not expected"), (["completion", "tcsh"], "bash,zsh,fish")]:
            with self.subTest(args=args):
                self.refused(USAGE, *args, says=says)
                self.assertIn("Usage: keel", self.keel(*args, code=USAGE).err)
        self.assertEqual(self.keel("--version").out.count("."), 2)

    def test_isa(self):
        self.refused(USAGE, "demo", KEEL_ISA="sse", says="not one of scalar, avx2, avx512, amx")
        self.assertNotIn("KEEL_ISA", self.keel("doctor", KEEL_ISA="").out)
        self.assertIn("not one of", self.keel("doctor", KEEL_ISA="sse").out)
        for f in json.loads(self.keel("doctor", "--json").out)["features"]:
            if f["name"] in ("avx2", "avx512", "amx_bf16"):
                name = f["name"].split("_")[0]
                pinned = self.keel("doctor", KEEL_ISA=name)
                if "this build has" in pinned.out:  # KEEL_NATIVE: one level
                    self.assertIn("cannot be followed here", pinned.out)
                elif f["found"]:
                    self.assertEqual(json.loads(self.keel("doctor", "--json", KEEL_ISA=name).out)["isa"], name)
                    self.assertRegex(self.keel("doctor", KEEL_ISA="scalar").out, "pinned to scalar|cannot be followed here: this build has")
                else:
                    self.assertIn("KEEL_ISA=%s cannot be followed here: " % name, pinned.out)
                    self.refused(USAGE, "demo", KEEL_ISA=name, says="cannot be followed here: " + f["why"])

    def test_variables_that_cannot_be_followed(self):
        self.assertEqual(self.keel("doctor").err, "")
        for name, value, says in [("KEEL_NUM_THREADS", "many", "is not a whole number"), ("KEEL_WINOGRAD", "off", "is not 0 or 1"), ("KEEL_FUSE", "some", "is not 0, 1 or all")]:
            line = "%s=%s %s, and is ignored" % (name, value, says)
            self.assertIn("warning     " + line, self.keel("doctor", **{name: value}).out)
            self.assertEqual(json.loads(self.keel("doctor", "--json", **{name: value}).out)["environment"], [line])
            said = self.keel("bench", "peers", "--only", "one_add", "--seconds", "0.01", **{name: value}).err
            self.assertEqual(said, "warning: " + line + "\n")
        self.assertEqual(self.keel("bench", "peers", "--only", "one_add", "--seconds", "0.01", KEEL_WINOGRAD="0").err, "")

    def test_data_folder(self):
        os.makedirs(os.path.join(self.dir, "data", "mnist"))
        self.env.pop("KEEL_DATA")
        self.assertEqual(json.loads(self.keel("doctor", "--json").out)["data"], "data")
        self.assertIn("--data TEXT:DIR=data ", self.keel("train", "mnist", "--help").out)

    def test_doctor_says_why_there_is_no_gpu(self):
        def cuda(**env):
            return json.loads(self.keel("doctor", "--json", **env).out)["cuda"]

        if "is not beside" not in cuda():
            self.skipTest("there is a CUDA library here")
        self.put("libkeel_cuda.so", "no library")
        self.assertIn("libkeel_cuda.so does not load", cuda(KEEL_BACKEND_PATH="."))
        self.assertIn("does not load", self.keel("train", "mnist", "--device", "cuda", code=NO_DEVICE, KEEL_BACKEND_PATH=".").err)
        if shutil.which("cc"):
            self.put("other.c", "int other;")
            subprocess.run(["cc", "-shared", "-fPIC", "other.c", "-o", "libkeel_cuda.so"], cwd=self.dir, check=True)
            self.assertIn("libkeel_cuda.so is no Keel library", cuda(KEEL_BACKEND_PATH="."))

    def test_a_device_library_beside_a_program_that_path_found(self):
        if "is not beside" not in self.keel("doctor").out:
            self.skipTest("there is a CUDA library here")
        bin = os.path.join(self.dir, "prefix", "bin")
        os.makedirs(bin)
        shutil.copy(KEEL, os.path.join(bin, "keel"))

        def doctor():
            return subprocess.run(["keel", "doctor"], cwd=self.dir, env=dict(self.env, PATH=bin), capture_output=True, check=True).stdout.decode()

        self.assertIn("is not beside this program", doctor())
        installed = [os.path.join(self.dir, "prefix", lib, "keel") for lib in ("lib", "lib64", "lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu")]
        for folders in ([bin], installed):  # one of the latter is this build's
            for folder in folders:
                os.makedirs(folder, exist_ok=True)
                self.put(os.path.join(folder, "libkeel_cuda.so"), "no library")
            self.assertIn("does not load", doctor(), folders)
            for folder in folders:
                os.remove(os.path.join(folder, "libkeel_cuda.so"))

    def test_doctor(self):
        d = json.loads(self.keel("doctor", "--json").out)
        self.assertLessEqual({"version", "build", "cpu", "isa", "threads", "features", "ops", "devices", "data", "data_present"}, d.keys())
        for f in d["features"]:
            self.assertEqual(f["used"], f["why"] == "", f)
        text = self.keel("doctor").out
        for word in ("processor", "kernels", "caches", "threads", "ops", "devices", "data"):
            self.assertIn(word, text)

    @unittest.skipUnless(os.path.exists("/dev/full"), "no /dev/full")
    def test_output_that_cannot_be_written(self):
        with open("/dev/full", "wb") as full:
            r = subprocess.run([KEEL, "doctor"], stdout=full, stderr=subprocess.PIPE, env=self.env, cwd=self.dir)
        self.assertEqual(r.returncode, FAILED)
        self.assertIn(b"cannot write to the standard output: No space left", r.stderr)

    def test_completion(self):
        for shell in ("bash", "zsh", "fish"):
            script = self.keel("completion", shell).out
            for word in ("train", "char-gpt", "checkpoint-steps", "doctor"):
                self.assertIn(word, script)
            if shell != "bash" and shutil.which(shell):
                subprocess.run([shell, "-n"], input=script.encode(), check=True)
        script = self.put("completion.bash", self.keel("completion", "bash").out)

        def complete(*words):
            ask = 'source %s; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _keel; printf "%%s\\n" "${COMPREPLY[@]}"' % script
            return subprocess.run(["bash", "--norc", "-c", ask, "bash", *words], cwd=self.dir, capture_output=True, check=True).stdout.decode().split()

        self.assertEqual(complete("keel", "tr"), ["train"])
        self.assertEqual(complete("keel", "train", ""), ["mnist", "char-gpt", "--help"])
        self.assertEqual(complete("keel", "train", "mnist", "--ep"), ["--epochs"])
        self.assertEqual(complete("keel", "bench", "peers", "--on"), ["--only"])
        self.put("model.npy", "")
        self.assertIn("model.npy", complete("keel", "inspect", "mod"))
        self.assertEqual(complete("keel", "train", "mnist", "--model", "res"), ["resnet18", "resnet50"])
        self.assertEqual(complete("keel", "completion", "z"), ["zsh"])


class Inspect(Case):
    def test_hostile_files(self):
        npy = b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + ("{'descr': '<f4', 'fortran_order': False, 'shape': (1000,), }".ljust(117) + "\n").encode()
        os.mkdir(os.path.join(self.dir, "folder"))
        files = [self.put("empty", b""), self.put("one", b"\x00"), self.put("text.txt", "Not a model, only words."), self.put("short.npy", npy + bytes(100)), self.put("header.npy", npy[:40]),
                 self.put("huge.safetensors", struct.pack("<Q", 2**63) + b"{}"), self.put("name\nwith line.npy", npy), "/dev/null", "missing.npy", "folder"]
        if os.getuid() != 0:
            os.chmod(self.put("locked.npy", npy), 0)
            files.append("locked.npy")
        for f in files:
            with self.subTest(file=f):
                self.assertIn(os.path.basename(f).split("\n")[0], self.refused(FAILED, "inspect", f))
        self.refused(FAILED, "inspect", "empty", says="empty: is empty")

    def test_corpus(self):
        corpus = os.path.join(DATA, "safetensors-corpus")
        if not os.path.isdir(corpus):
            self.skipTest("no data")
        for kind, code in (("bad", FAILED), ("good", OK)):
            for f in sorted(os.listdir(os.path.join(corpus, kind))):
                with self.subTest(file=f):
                    r = self.keel("inspect", os.path.join(corpus, kind, f), "--json", code=code)
                    if code == OK:
                        self.assertIn("tensors", json.loads(r.out))
                    else:
                        self.assertEqual((r.out, len(r.err.splitlines())), ("", 1), r.err)

    def test_json(self):
        ops = json.loads(self.keel("inspect", "--registry", "--json").out)
        self.assertGreater(len(ops), 150)
        for op in ops:
            self.assertLessEqual({"name", "doc", "params", "gradient", "judges", "outputs"}, op.keys())
        npy = b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + ("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }".ljust(117) + "\n").encode() + bytes(24)
        found = json.loads(self.keel("inspect", self.put("a.npy", npy), "--json").out)
        self.assertEqual(found["tensors"], [{"name": "arr_0", "dtype": "f32", "shape": [2, 3], "bytes": 24}])

    def test_precision(self):
        npy = b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + ("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }".ljust(117) + "\n").encode()
        values = [0.0, 1.0, 500.0, 1e-9, 70000.0, float("inf")]
        path = self.put("a.npy", npy + struct.pack("<6f", *values))
        text = self.keel("precision", path).out
        self.assertIn("arr_0", text)
        self.assertIn("1 tensors, 1 of them floating", text)
        found = json.loads(self.keel("precision", path, "--json", "--svg", "p.svg", "--html", "p.html").out)["entries"]
        self.assertEqual([e["op"] for e in found], ["arr_0"])
        report = found[0]["report"]
        self.assertEqual([report[k] for k in ("elements", "zeros", "infinities", "nonzero")], [6, 1, 1, 4])
        f16 = [t for t in report["targets"] if t["dtype"] == "f16"][0]
        self.assertEqual((f16["overflow"], f16["flushed"], f16["fits"]), (0.25, 0.25, False))
        self.assertTrue(read(os.path.join(self.dir, "p.svg")).startswith(b"<svg"))
        self.assertIn(b"</html>", read(os.path.join(self.dir, "p.html")))
        self.refused(FAILED, "precision", "missing.npy", says="missing.npy")
        self.refused(FAILED, "precision", path, "--svg", "no/such/folder.svg", says="folder.svg")
        self.refused(FAILED, "precision", self.put("words.npy", "Not a model."), says="words.npy")
        os.mkdir(os.path.join(self.dir, "run"))
        self.refused(FAILED, "precision", "run", says="checkpoint.keel")


class Story(Case):
    """`keel monitor` on logs of runs, and on files that are none."""

    def log(self):
        """A site whose values double every ten steps until binary16 ends, beside one that stays where it is."""
        lines = [{"event": "run", "format": 2, "keel": "0.1.0", "isa": "avx2"},
                 {"event": "site", "id": 4, "op": "matmul", "output": "y", "path": "block.0.attn", "phase": "forward", "site": "Attention::forward (net.cpp:41)", "dtype": "f16"},
                 {"event": "site", "id": 8, "op": "mul", "output": "y", "path": "block.<script>", "phase": "backward", "site": "net.cpp:44", "dtype": "f32"}]
        for step in range(1, 301):
            high = 2.0 ** (step / 20)
            broken = high > 65504
            lines.append({"event": "series", "step": step, "id": [4, 8], "high": [None if broken else high, 3.5], "low": [1e-3, 1e-5], "bits": [0 if broken else 16 - step / 20, 126.2], "nan": [0, 0],
                          "inf": [3 if broken else 0, 0], "subnormal": [0, 2]})
            if step == 250:
                lines.append({"event": "warning", "severity": "warning", "detector": "headroom", "step": step, "epoch": 2, "id": 4, "op": "matmul", "path": "block.0.attn", "phase": "forward", "site": "net.cpp:41",
                              "kind": "", "eta": 70, "low": 0, "mean": 0, "lost_ulps": 0, "text": "matmul has 3.5 bits left, and loses 0.05 a step \u001b[31m\u202e",
                              "suggestion": {"kind": "dtype", "value": 0, "text": "bf16: its range is wide enough"}})
        lines.insert(-40, {"event": "finding", "severity": "fault", "detector": "nonfinite", "step": 290, "op": "mul", "path": "block.<script>", "phase": "backward", "site": "net.cpp:44", "kind": "nan",
                           "text": "mul gave 3 NaN of 64 values", "suggestion": None})
        return "".join(json.dumps(line) + "\n" for line in lines)

    def test_story(self):
        os.mkdir(os.path.join(self.dir, "run"))
        self.put("run/monitor.jsonl", self.log())
        said = self.keel("monitor", "run").out
        for words in ("300 steps, 2 sites; 1 fault, 1 warning, 0 notes", "step 250, epoch 2: matmul in block.0.attn, forward (headroom)", "out of range in about 70 steps", "bf16: its range is wide enough",
                      "mul gave 3 NaN of 64 values", "at net.cpp:44", "the page: run/monitor.html", "!", "×"):
            self.assertIn(words, said)
        self.assertNotIn("\x1b", said)
        self.assertNotIn("\u202e", said)
        self.assertLess(said.index("mul gave 3"), said.index("matmul has 3.5"))
        page = read(os.path.join(self.dir, "run", "monitor.html")).decode()
        self.assertNotIn("<script", page)
        self.assertIn("block.&lt;script&gt;", page)
        self.assertNotIn("http", page.replace('xmlns="http://www.w3.org/2000/svg"', ""))
        self.assertGreaterEqual(page.count("<svg"), 4)
        j = json.loads(self.keel("monitor", "run/monitor.jsonl", "--json").out)
        self.assertEqual([e["severity"] for e in j["events"]], ["fault", "warning"])
        self.assertEqual((j["steps"], j["damaged"], j["cut_short"], j["stride"]), (300, 0, False, 2))
        site = j["sites"][[s["op"] for s in j["sites"]].index("matmul")]
        self.assertLess(len(site["points"]), 257)
        falling = [p["eta"] for p in site["points"] if p["step"] == 200]
        self.assertAlmostEqual(falling[0], 120, delta=4)
        self.keel("monitor", "run", "--html", "other.html", "--sites", "1")
        self.assertTrue(os.path.exists(os.path.join(self.dir, "other.html")))
        self.keel("monitor", "run", "--json", "--html", "no/such/folder.html", code=FAILED)

    def test_hostile_logs(self):
        good = self.log()
        os.mkdir(os.path.join(self.dir, "folder"))
        os.mkdir(os.path.join(self.dir, "folder.jsonl"))
        for name, content in (("empty", b""), ("binary", bytes(range(256)) * 50), ("words", b"Not a log.\n" * 9), ("deep", b"[" * 100000), ("long", b"x" * (6 << 20))):
            self.put(name + ".jsonl", content)
        for f in ("empty.jsonl", "binary.jsonl", "words.jsonl", "deep.jsonl", "long.jsonl", "missing.jsonl", "folder.jsonl", "folder", "nowhere", "/dev/zero.jsonl"):
            with self.subTest(file=f):
                self.assertIn(f, self.refused(FAILED, "monitor", f))
        os.symlink("/dev/zero", os.path.join(self.dir, "endless.jsonl"))
        self.refused(FAILED, "monitor", "endless.jsonl", says="no regular file")
        for half in range(200, len(good), len(good) // 40):
            with self.subTest(half=half):
                self.put("half.jsonl", good[:half + 60])
                self.keel("monitor", "half.jsonl")
        hostile = [{"event": "site", "id": -1}, {"event": "site", "id": 2**63}, {"event": "site", "id": 1, "op": 5, "path": ["a"], "phase": {}, "dtype": None},
                   {"event": "series", "step": 2**62, "id": [1, 1, "x", None], "high": [1e308, -1, 0], "low": "no", "bits": [1e300], "nan": [1e300, -5], "inf": {}},
                   {"event": "series", "step": -5, "id": [1]}, {"event": "series", "step": 1e300, "id": 7}, {"event": "warning", "step": 1, "suggestion": [], "text": "x" * 100000, "eta": -9},
                   {"event": "finding", "step": 3, "id": 1, "op": "\u0000\u0007"}, [], 7, {"event": {}}, {"event": "series"}]
        self.put("far.jsonl", good + json.dumps({"event": "step", "step": 2**62}) + "\n")  # further than any run, and without values
        self.assertIn("2 sites", self.keel("monitor", "far.jsonl").out)
        self.put("hostile.jsonl", "".join(json.dumps(h) + "\n" for h in hostile) + good + '{"event": "series", "step": 9' + "\n{\xff}\n")
        self.assertIn("could not be read; the first is line", self.keel("monitor", "hostile.jsonl").out)
        json.loads(self.keel("monitor", "hostile.jsonl", "--json").out)
        many = [{"event": "site", "id": i, "op": "add", "path": "m.%d" % i} for i in range(9000)] + [{"event": "series", "step": s, "id": list(range(9000)), "high": [1.0] * 9000, "bits": [7] * 9000} for s in range(40)]
        many += [{"event": "finding", "step": 1, "text": "again"}] * 9000
        self.put("many.jsonl", "".join(json.dumps(m) + "\n" for m in many))
        said = self.keel("monitor", "many.jsonl").out
        self.assertIn("9000 sites", said)
        self.assertIn("... and 8988 more", said)


class Train(Case):
    def setUp(self):
        super().setUp()
        small_mnist(os.path.join(self.dir, "data"))

    def lines(self, r):
        return [json.loads(line) for line in r.out.splitlines()]

    @unittest.skipIf(SANITIZED, "an epoch of a network of 11 million parameters takes minutes")
    def test_residual_network(self):
        small_mnist(os.path.join(self.dir, "few", "data"), train=40, test=10)
        for dtype in ("f32", "bf16"):
            run = "runs/" + dtype
            args = ["train", "mnist", "--model", "resnet18", "--dtype", dtype, "--data", "few/data", "--batch-size", "20", "--out", run, "--json"]
            said = self.lines(self.keel(*args, "--epochs", "1"))
            self.assertEqual(said[-1]["parameters"], 11173962)
            resumed = self.lines(self.keel(*args[:4], *args[6:], "--epochs", "2", "--resume"))
            self.assertEqual([s.get("epoch") for s in resumed], [2, None])
            self.assertEqual(json.loads(self.keel("eval", run, "--data", "few/data", "--json").out)["model"], "resnet18")
            names = {t["name"]: t["dtype"] for t in json.loads(self.keel("inspect", run + "/model.safetensors", "--json").out)["tensors"]}
            self.assertEqual((names["conv1.weight"], names["bn1.running_var"]), (dtype, "f32"))

    def test_mnist(self):
        for model, parameters in (("mlp", 101770), ("cnn", 44426)):
            run = "runs/mnist-" + model
            said = self.lines(self.keel("train", "mnist", "--model", model, "--epochs", "4", "--batch-size", "20", "--json"))
            self.assertEqual([s.get("epoch") for s in said], [1, 2, 3, 4, None])
            self.assertEqual(said[-1]["parameters"], parameters)
            self.assertGreater(said[-1]["accuracy"], 0.9)
            for name in ("checkpoint.keel", "model.safetensors", "config.json", "trainer_state.json", "loss.svg"):
                self.assertTrue(os.path.exists(os.path.join(self.dir, run, name)), name)
            evaluated = json.loads(self.keel("eval", run, "--json").out)
            self.assertEqual(evaluated["accuracy"], said[-1]["accuracy"])
            rows = json.loads(self.keel("predict", run, "--count", "3", "--first", "99", "--json").out)
            self.assertEqual([r["example"] for r in rows], [99, 0, 1])
            self.assertAlmostEqual(sum(rows[0]["probabilities"]), 1, 5)
            self.assertIn("predicted", self.keel("predict", run, "--count", "1").out)
            self.assertIn("accuracy", self.keel("eval", run).out)
            self.assertGreater(len(json.loads(self.keel("inspect", run + "/model.safetensors", "--json").out)["tensors"]), 3)
        self.refused(USAGE, "train", "mnist", "--model", "cnn", "--dtype", "bf16", says="cnn is trained in f32")
        again = self.keel("train", "mnist", "--model", "mlp", "--epochs", "1", "--no-progress")
        self.assertIn("checkpoint.old.keel", again.err)
        self.refused(USAGE, "train", "mnist", "--model", "cnn", "--out", "runs/mnist-mlp", "--resume", says="'mlp', not cnn")
        self.refused(FAILED, "sample", "runs/mnist-mlp", says="no char-gpt")
        self.refused(NUMERICAL, "train", "mnist", "--model", "mlp", "--lr", "1e30", "--out", "hot", says="the loss is")
        self.refused(NUMERICAL, "train", "mnist", "--model", "mlp", "--lr", "1e30", "--out", "stopped", "--break-on", "nonfinite", "--no-progress", says="from finite inputs")
        self.assertIn("from finite inputs", read(os.path.join(self.dir, "stopped", "post_mortem.txt")).decode())
        said = json.loads(read(os.path.join(self.dir, "stopped", "post_mortem.json")))["findings"]
        self.assertEqual([f["severity"] for f in said], ["warning", "fault"])  # a step far too long, then what came of it
        self.assertIn("1 fault", self.keel("monitor", "stopped").out)
        self.refused(NUMERICAL, "train", "mnist", "--model", "mlp", "--lr", "1e30", "--out", "warned", "--break-on-instability", "--no-progress", says="moved the weights by")
        said = json.loads(read(os.path.join(self.dir, "warned", "post_mortem.json")))["findings"]
        self.assertEqual([f["severity"] for f in said], ["warning"])
        strict = self.lines(self.keel("train", "mnist", "--model", "mlp", "--epochs", "1", "--batch-size", "4", "--max-ulp-drift", "0.001", "--out", "strict", "--json"))[-1]
        self.assertGreater(strict["warnings"], 0)
        watched = self.keel("train", "mnist", "--model", "mlp", "--epochs", "1", "--monitor", "--out", "watched")
        self.assertIn("0 faults", watched.out)
        self.assertIn("keel monitor watched", watched.out)
        self.refused(FAILED, "train", "mnist", "--out", self.put("file", ""), says="no folder")
        self.refused(FAILED, "eval", "nowhere", says="config.json")
        shutil.copy(os.path.join(self.dir, "runs/mnist-cnn/model.safetensors"), os.path.join(self.dir, "runs/mnist-mlp/model.safetensors"))
        self.refused(FAILED, "eval", "runs/mnist-mlp", says="missing: 1.weight")  # another network's weights: all of it is listed
        self.refused(FAILED, "train", "mnist", "--out", "/proc/none/run", says="cannot make the folder /proc/none/run")
        if os.getuid() != 0:
            os.mkdir(os.path.join(self.dir, "locked"), 0o500)
            self.refused(FAILED, "train", "mnist", "--out", "locked", says="Permission denied")
            self.refused(FAILED, "train", "mnist", "--out", "locked/run", says="Permission denied")
        for config, says in ((b"", "is no JSON object"), (b"[]", "is no JSON object"), (b'{"dataset": 3}', "has no text 'model'"), (b'{"model": 3}', "has no text 'model'"),
                             (b'{"model": "lstm"}', "'lstm'"), (b'{"model": "char-gpt", "vocab": -4, "characters": "a"}', "char-gpt|vocab")):
            self.put("runs/mnist-cnn/config.json", config)
            for args in (["eval", "runs/mnist-cnn", "--text", "file"], ["predict", "runs/mnist-cnn"], ["sample", "runs/mnist-cnn"]):
                with self.subTest(config=config, args=args):
                    self.assertRegex(self.refused(FAILED, *args), says if args[0] != "sample" else "config.json|no char-gpt")
            if "no " in says:
                self.refused(FAILED, "train", "mnist", "--model", "cnn", "--resume", says="config.json: " + says)
        whole = read(os.path.join(self.dir, "watched", "checkpoint.keel"))
        for damaged in (whole[:-1], whole[:3000], whole[:-1] + bytes([whole[-1] ^ 1]), b""):
            self.put("watched/checkpoint.keel", damaged)
            self.refused(FAILED, "train", "mnist", "--model", "mlp", "--out", "watched", "--resume", says="something else changed the file")

    def test_drawn_digits(self):
        said = self.lines(self.keel("train", "mnist", "--model", "mlp", "--epochs", "1", "--json", "--out", "run", KEEL_DATA="nowhere"))
        self.assertEqual(said[-1]["dataset"], "drawn digits")

    def test_char_gpt(self):
        text = self.put("text.txt", "Fünf süße Bären jagten über den Ärmelkanal – 数学は美しい 🙂.\n" * 40)
        small = ["--layers", "1", "--width", "16", "--heads", "2", "--context", "16"]
        r = self.keel("train", "char-gpt", "--text", text, "--iterations", "30", *small)
        self.assertIn("keel sample runs/char-gpt", r.out)
        self.assertTrue(self.keel("sample", "runs/char-gpt", "--prompt", "Bären 🙂", "--tokens", "40").out.startswith("Bären 🙂"))
        told = json.loads(self.keel("sample", "runs/char-gpt", "--tokens", "25", "--json").out)
        self.assertEqual(len(told["text"]), 25)
        self.assertEqual(self.keel("sample", "runs/char-gpt", "--temperature", "0", "--tokens", "9").out, self.keel("sample", "runs/char-gpt", "--top-k", "1", "--tokens", "9", "--seed", "5").out)
        self.refused(FAILED, "sample", "runs/char-gpt", "--prompt", "XY", "--json", says="character 'X' at byte 0")
        self.refused(USAGE, "eval", "runs/char-gpt", says="--text is required")
        self.assertLess(json.loads(self.keel("eval", "runs/char-gpt", "--text", text, "--json").out)["loss"], 4)
        self.refused(FAILED, "predict", "runs/char-gpt", says="not an image model")
        self.refused(USAGE, "train", "mnist", "--out", "runs/char-gpt", "--resume", says="'char-gpt'")
        self.refused(USAGE, "train", "char-gpt", "--text", text, "--resume", "--layers", "2", says="was made with 1")
        self.refused(USAGE, "train", "char-gpt", "--text", text, "--heads", "5", says="must divide --width 128")
        self.refused(USAGE, "train", "char-gpt", "--text", self.put("tiny.txt", "To be, or not to be, that is the question."), says="--context 4 fits")
        self.keel("train", "char-gpt", "--text", os.path.join(self.dir, "tiny.txt"), "--context", "4", "--iterations", "3", "--out", "tiny")
        self.refused(USAGE, "train", "char-gpt", "--text", self.put("none.txt", ""), says="it has 0")
        latin = self.put("latin.txt", ("Fünf Bären. " * 80).encode("latin-1"))
        self.refused(FAILED, "train", "char-gpt", "--text", latin, says="is no text in UTF-8: byte 0xfc at 1")
        self.refused(FAILED, "eval", "runs/char-gpt", "--text", latin, says="is no text in UTF-8")
        more = self.lines(self.keel("train", "char-gpt", "--text", text, "--iterations", "50", "--resume", "--json"))
        self.assertEqual(more[-1]["steps"], 50)


class Bench(Case):
    ROWS = {"one_add": ["add [1] no_grad", "add [1] with grad"], "mlp_tiny": ["MLP 64-64-10 step b32 adam"], "mlp_mnist": ["MNIST MLP step b64 adam"], "cnn_mnist": ["MNIST CNN step b64 adam"],
            "char_gpt": ["char-GPT 4x128 T64 b12 step adamw"], "gpt_adam": ["char-GPT 4x128 T64 b12 step adam"]}

    def test_rows_bear_the_names_of_the_peers(self):
        for group, names in self.ROWS.items():
            rows = [json.loads(line) for line in self.keel("bench", "peers", "--json", "--only", group, "--seconds", "0.01", "--threads", "1").out.splitlines()]
            self.assertEqual([r["name"] for r in rows], names)
            for r in rows:
                self.assertEqual(r["threads"], 1)
                self.assertIn(r["unit"], ("ns", "us", "ms"))
                self.assertGreaterEqual(r["median"], r["best"])
                self.assertGreater(r["best"], 0)

    def test_accuracy(self):
        small_mnist(os.path.join(self.dir, "data"))
        rows = [json.loads(line) for line in self.keel("bench", "peers", "--json", "--only", "mnist_accuracy").out.splitlines() if line.startswith("{")]
        self.assertEqual([], [r for r in rows if "name" not in r])
        self.assertEqual([r["name"] for r in rows], ["MNIST MLP epoch b64 adam", "MNIST MLP accuracy after 10 epochs", "MNIST CNN epoch b64 adam", "MNIST CNN accuracy after 10 epochs"])
        said = self.keel("bench", "accuracy", "--only", "MNIST MLP", "--seeds", "2", "--epochs", "3").out
        self.assertIn("mean of 2 seeds", said)

    def test_monitor(self):
        row = json.loads(self.keel("bench", "monitor", "--json", "--only", "char-GPT", "--rounds", "3", "--seconds", "0.1").out)
        self.assertEqual(row["name"], "monitor char-GPT 4x128 T64 b12 step adamw")
        self.assertTrue(all(isinstance(row[k], float) for k in ("median", "error", "control", "control_error", "off_seconds", "on_seconds")), row)


class Models(Case):
    def row(self, *args):
        return json.loads(self.keel("bench", "model", *args, "--tiny", "--json", "--seconds", "0.05", "--threads", "1").out)

    def test_every_network_at_a_tiny_size(self):
        images = [(name, "training", "images/s", 2) for name in ("resnet18", "resnet50", "mlp", "cnn")]
        for name, kind, unit, batch in [("gpt2", "training", "tokens/s", 2), *images, ("bert", "forward", "sequences/s", 1)]:
            for dtype in ("f32", "bf16"):
                with self.subTest(name=name, dtype=dtype):
                    r = self.row(name, "--dtype", dtype)
                    self.assertEqual((r["name"], r["kind"], r["unit"], r["dtype"], r["batch"]), (name, kind, unit, dtype, batch))
                    self.assertGreaterEqual(r["best"], r["median"])
                    self.assertGreater(r["median"], 0)
                    self.assertGreater(r["parameters"], 1000)
                    self.assertGreater(r["peak_bytes"], 4 * r["parameters"])
                    if kind == "training":
                        self.assertTrue(0 <= r["loss"] < 10, r)  # two images are soon known by heart: 0

    def test_choices(self):
        self.assertEqual(self.row("gpt2", "--dtype", "f16", "--clip", "1", "--batch", "3", "--context", "8")["batch"], 3)
        self.assertEqual(self.row("resnet50", "--forward", "--small-stem", "--dtype", "f32")["kind"], "forward")
        self.assertNotIn("loss", self.row("gpt2", "--forward", "--dtype", "f32"))
        self.refused(USAGE, "bench", "model", "gpt2", "--tiny", "--context", "17", says="16 positions")
        self.refused(USAGE, "bench", "model", "gpt3", says="gpt3")
        compiled = self.row("mlp", "--compile")
        self.assertEqual((compiled["captured"], compiled["not_captured"]), (False, "the CPU has nothing to capture"))

    def test_a_curve_falls_and_repeats(self):
        ids = [(i * i + i // 7) % 101 for i in range(400)]
        header = "{'descr': '<i4', 'fortran_order': False, 'shape': (400,), }".ljust(117) + "\n"
        npy = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()
        args = ["bench", "curve", "--tokens", self.put("tokens.npy", npy + struct.pack("<400i", *ids)), "--tiny", "--steps", "30", "--json", "--threads", "1"]
        for dtype in ("f32", "bf16"):
            losses = [json.loads(r)["loss"] for r in self.keel(*args, "--dtype", dtype).out.splitlines()]
            self.assertEqual(len(losses), 30)
            self.assertTrue(abs(losses[0] - math.log(101)) < 0.1, losses[0])
            self.assertLess(losses[-1], losses[0] - 0.05)
            compiled = [json.loads(r)["loss"] for r in self.keel(*args, "--dtype", dtype, "--compile").out.splitlines()]
            self.assertEqual(losses, compiled)
        self.refused(USAGE, *args, "--context", "17", says="16 positions")
        self.put("tokens.npy", npy + struct.pack("<400i", 101, *ids[1:]))
        self.refused(USAGE, *args, says="token 101 is not below 101")


class Kill(Case):
    """A run that is killed at any moment, again and again, ends with the bits of one that is left alone."""

    def setUp(self):
        super().setUp()
        small_mnist(os.path.join(self.dir, "data"))

    def arguments(self, out):
        return ["train", "mnist", "--model", "cnn", "--epochs", "16", "--batch-size", "20", "--checkpoint-steps", "3", "--out", out, "--no-progress"]

    def start(self, out):
        resume = ["--resume"] if os.path.exists(os.path.join(self.dir, out, "checkpoint.keel")) else []
        return subprocess.Popen([KEEL, *self.arguments(out), *resume], cwd=self.dir, env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def weights(self, out):
        return read(os.path.join(self.dir, out, "model.safetensors"))

    def test_killed_runs_lose_nothing(self):
        begin = time.monotonic()
        self.keel(*self.arguments("whole"))
        whole = time.monotonic() - begin
        draw = random.Random(11)
        kills, finished, seen = 0, 0, 0
        while kills < 25 and finished < 6:
            p = self.start("killed")
            try:
                p.wait(draw.uniform(0.2, 0.6) * whole / 6)
                self.assertEqual(p.returncode, OK, p.stderr.read())
                finished += 1  # got to its end: the same bits; then from the start, to be killed some more
                self.assertEqual(self.weights("killed"), self.weights("whole"))
                shutil.rmtree(os.path.join(self.dir, "killed"))
            except subprocess.TimeoutExpired:
                p.send_signal(signal.SIGKILL)
                p.wait()
                kills += 1
                checkpoint = os.path.join(self.dir, "killed", "checkpoint.keel")
                if os.path.exists(checkpoint):
                    seen += 1
                    self.assertIn("metadata", json.loads(self.keel("inspect", checkpoint, "--json").out))
            p.stderr.close()
        print(kills, "kills,", seen, "with a checkpoint,", finished, "runs to the end", end=" ... ", flush=True)
        self.assertGreaterEqual(kills, 20)
        self.assertGreater(seen, kills // 2)
        p = self.start("killed")
        self.assertEqual(p.wait(), OK, p.stderr.read())
        p.stderr.close()
        self.assertEqual(self.weights("killed"), self.weights("whole"))
        self.assertEqual([f for f in os.listdir(os.path.join(self.dir, "killed")) if ".part-" in f], [])

    def wait_for(self, out, what="checkpoint.keel"):
        for _ in range(3000):
            if os.path.exists(os.path.join(self.dir, out, what)):
                return
            time.sleep(0.01)
        self.fail("no " + what)

    def test_interrupt_saves(self):
        self.keel(*self.arguments("whole"))
        p = self.start("stopped")
        self.wait_for("stopped")
        p.send_signal(signal.SIGINT)
        self.assertEqual(p.wait(60), INTERRUPTED, p.stderr.read())
        p.stderr.close()
        state = json.loads(read(os.path.join(self.dir, "stopped", "trainer_state.json")))
        self.assertTrue(state["interrupted"])
        r = self.keel(*self.arguments("stopped"), "--resume")
        self.assertIn("accuracy", r.out)
        self.assertEqual(self.weights("stopped"), self.weights("whole"))

    def test_second_interrupt_stops_at_once(self):
        """The first is answered at the end of a step; a step of 4,000 images takes a while, and the second must not wait for it."""
        small_mnist(os.path.join(self.dir, "large"), train=4000)
        codes = []
        while len(codes) < 5 and -signal.SIGINT not in codes:  # a step may end between the two
            p = subprocess.Popen([KEEL, "train", "mnist", "--data", "large", "--batch-size", "4000", "--epochs", "900", "--checkpoint-steps", "1", "--out", "long"], cwd=self.dir, env=self.env,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            self.wait_for("long")
            p.send_signal(signal.SIGINT)
            time.sleep(0.01)
            begin = time.monotonic()
            p.send_signal(signal.SIGINT)
            codes.append(p.wait(60))
            if codes[-1] == -signal.SIGINT:
                self.assertLess(time.monotonic() - begin, 0.5)
        self.assertIn(-signal.SIGINT, codes)
        checkpoints = [f for f in ("checkpoint.keel", "checkpoint.old.keel") if os.path.exists(os.path.join(self.dir, "long", f))]
        self.assertTrue(checkpoints)
        for f in checkpoints:
            self.assertIn("metadata", json.loads(self.keel("inspect", "long/" + f, "--json").out))


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]])
