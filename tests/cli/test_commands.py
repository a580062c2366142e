"""The main job from end to end: quantize, evaluate, inspect, and what they report."""

from __future__ import annotations

import json
import shutil

import numpy as np

import program
from program import DIGITS_CALIB, DIGITS_MODEL, DIGITS_TEST, IMAGES, MODELS, PRESET, support


class DegenerateTest(program.ProgramTest):
    """Weights of zero, of numbers that float32 hardly has, and one feature: nothing is wrong."""

    def quantize(self, name: str, features: int, scales: dict[str, float]) -> None:
        import torch

        class Net(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.first = torch.nn.Linear(features, 16)
                self.norm = torch.nn.LayerNorm(16)
                self.middle = torch.nn.Linear(16, 24)
                self.last = torch.nn.Linear(24, 16)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                x = self.first(x)
                return x + self.last(torch.nn.functional.gelu(self.middle(self.norm(x))))

        torch.manual_seed(0)
        model = Net().eval()
        with torch.no_grad():
            for layer, scale in scales.items():
                for parameter in getattr(model, layer).parameters():
                    parameter.mul_(scale)
        samples = torch.randn(16, 6, features)
        torch.jit.save(torch.jit.trace(model, samples[:2]), str(self.folder / f"{name}.pt"))
        np.save(self.folder / f"{name}.npy", samples.numpy())
        for bits in ("w8a8", "w4a4"):
            self.succeed("quantize", f"{name}.pt", "--calib", f"{name}.npy", "--bits", bits,
                         "--effort", "fast")

    def test_nothing_is_wrong(self) -> None:
        self.quantize("zero", 8, {"middle": 0.0, "last": 0.0})
        self.quantize("denormal_input", 8, {"first": 1e-40})
        self.quantize("denormal_codes", 8, {"middle": 1e-40})
        self.quantize("one_feature", 1, {})


class EvaluateTest(program.ProgramTest):
    def test_accuracy_is_that_of_stock_pytorch(self) -> None:
        import torch

        with np.load(DIGITS_TEST) as arrays:
            images, labels = torch.from_numpy(arrays["images"]), arrays["labels"]
        with torch.no_grad():
            logits = torch.jit.load(str(DIGITS_MODEL))(images).numpy()
        model = self.result("evaluate", DIGITS_MODEL, "--data", DIGITS_TEST)["models"][0]
        self.assertEqual(model["top1"]["count"], int((logits.argmax(1) == labels).sum()))
        best = np.argsort(-logits, axis=1, kind="stable")[:, :5]
        self.assertEqual(model["top5"]["count"], int((best == labels[:, None]).any(1).sum()))
        low, high = model["top1"]["interval95"]
        self.assertTrue(low < model["top1"]["value"] < high)

    def test_reference_metrics(self) -> None:
        import torch

        # A copy whose head has been disturbed: agreement, KL and SQNR have known values.
        model = torch.jit.load(str(DIGITS_MODEL))
        with np.load(DIGITS_TEST) as arrays:
            images, labels = torch.from_numpy(arrays["images"]), arrays["labels"]
        with torch.no_grad():
            before = model(images).double()
            model.head.weight.mul_(1 + 0.5 * torch.randn(model.head.weight.shape,
                                                         generator=torch.manual_seed(0)))
            after = model(images).double()
        torch.jit.save(model, str(self.folder / "other.pt"))
        report = self.result("evaluate", "other.pt", "--data", DIGITS_TEST, "--reference",
                             DIGITS_MODEL)
        got = report["models"][0]
        same = int((before.argmax(1) == after.argmax(1)).sum())
        self.assertEqual(got["agreement"]["count"], same)
        self.assertLess(same, len(labels))
        p, q = before.log_softmax(1), after.log_softmax(1)
        self.assertAlmostEqual(got["kl"], float((p.exp() * (p - q)).sum(1).mean()), places=5)
        sqnr = 10 * torch.log10((before**2).sum() / ((before - after) ** 2).sum())
        self.assertAlmostEqual(got["sqnr_db"], float(sqnr), places=3)
        right_before = before.argmax(1).numpy() == labels
        right_after = after.argmax(1).numpy() == labels
        change = got["top1_difference"]
        self.assertEqual(change["lost"], int((right_before & ~right_after).sum()))
        self.assertEqual(change["gained"], int((~right_before & right_after).sum()))
        self.assertEqual(report["reference"]["top1"]["count"], int(right_before.sum()))

    def test_forms_of_an_artifact(self) -> None:
        self.succeed("quantize", DIGITS_MODEL, "--bits", "w8a8", "--calib", DIGITS_CALIB,
                     "--calib-samples", "32", "-o", "q.pt")
        arguments = ("evaluate", DIGITS_MODEL, "q.pt", "--data", DIGITS_TEST, "--reference",
                     DIGITS_MODEL, "--form", "portable,fused", "--min-agreement", "0.9")
        report = self.result(*arguments)
        forms = ["float", "portable", "fused"]
        self.assertEqual([model["form"] for model in report["models"]], forms)
        self.assertEqual([gate["form"] for gate in report["gates"]], forms)
        self.assertEqual(report["reference"]["form"], "float")
        _, portable, fused = report["models"]
        self.assertGreaterEqual(fused["agreement"]["value"], 0.98)
        self.assertLess(abs(portable["sqnr_db"] - fused["sqnr_db"]), 3)
        self.assertNotEqual(portable["sqnr_db"], fused["sqnr_db"])
        only = self.result("evaluate", "q.pt", "--fused", "--data", DIGITS_TEST, "--reference",
                           DIGITS_MODEL)["models"]
        self.assertEqual([model["form"] for model in only], ["fused"])
        self.assertEqual(only[0]["sqnr_db"], fused["sqnr_db"])
        missed = self.run_program("evaluate", "q.pt", "--fused", "--data", DIGITS_TEST,
                                  "--reference", DIGITS_MODEL, "--max-kl", "0")
        self.assertEqual(missed.returncode, 1)
        self.assertIn("max-kl of q.pt (fused)", missed.stderr)

    def test_a_floating_point_model_has_no_fused_form(self) -> None:
        self.fails(2, "no model has a fused form", "evaluate", DIGITS_MODEL, "--fused", "--data",
                   DIGITS_TEST)

    def test_unlabelled_data_gives_agreement_only(self) -> None:
        with np.load(DIGITS_TEST) as arrays:
            np.save(self.folder / "images.npy", arrays["images"][:30])
        model = self.result("evaluate", DIGITS_MODEL, "--data", "images.npy", "--reference",
                            DIGITS_MODEL)["models"][0]
        self.assertNotIn("top1", model)
        self.assertEqual(model["agreement"]["value"], 1.0)
        self.assertIsNone(model["sqnr_db"])  # no difference at all

    def test_batch_size_and_order_do_not_matter(self) -> None:
        one = self.result("evaluate", DIGITS_MODEL, "--data", DIGITS_TEST, "--batch-size", "7")
        two = self.result("evaluate", DIGITS_MODEL, "--data", DIGITS_TEST, "--batch-size", "600")
        self.assertEqual(one["models"][0]["top1"], two["models"][0]["top1"])

    def test_gates(self) -> None:
        everything = ("evaluate", DIGITS_MODEL, "--data", DIGITS_TEST)
        arguments = (*everything, "--samples", "100", "--reference", DIGITS_MODEL)
        met = self.result(*arguments, "--min-top1", "50%", "--min-agreement", "1", "--max-kl", "0")
        self.assertEqual([gate["passed"] for gate in met["gates"]], [True] * 3)
        for json_form in (False, True):
            with self.subTest(json_form=json_form):
                done = self.run_program(*everything, "--min-top1", "1.0",
                                        *(["--json"] if json_form else []))
                self.assertEqual(done.returncode, 1)
                self.assertIn("gate", done.stderr)
                if json_form:
                    self.assertFalse(json.loads(done.stdout)["gates"][0]["passed"])
                else:
                    self.assertIn("top-1 %", done.stdout)
                    self.assertIn("MISSED", done.stdout)

    def test_one_value_a_sample(self) -> None:
        import torch

        class Score(torch.nn.Module):
            def __init__(self, sign: float) -> None:
                super().__init__()
                self.sign = sign

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.sign * x.sum(1)

        for name, sign in (("up", 1.0), ("down", -1.0)):
            model = torch.jit.trace(Score(sign), torch.zeros(2, 4))
            model.save(str(self.folder / f"{name}.pt"))
        np.savez(self.folder / "x.npz", x=np.random.rand(40, 4).astype(np.float32),
                 labels=np.arange(40) % 2)
        for size in (1, 16):  # the samples are no classes
            arguments = ("evaluate", "down.pt", "--reference", "up.pt", "--data", "x.npz",
                         "--batch-size", size)
            self.assertNotIn("agreement", self.result(*arguments)["models"][0])
            self.assertIn("one value a sample", self.succeed(*arguments).stderr)
            self.fails(2, "two values a sample", *arguments, "--min-agreement", "0.9")

    def test_a_number_of_samples_that_is_fixed(self) -> None:
        import torch

        class Four(torch.nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return x.reshape(4, 8)

        torch.jit.trace(Four(), torch.zeros(4, 2, 4)).save(str(self.folder / "four.pt"))
        np.save(self.folder / "x.npy", np.ones((10, 2, 4), np.float32))
        evaluate = ("evaluate", "four.pt", "--reference", "four.pt", "--data", "x.npy",
                    "--batch-size", "4")
        self.fails(2, "--samples 8", *evaluate)
        self.fails(2, "--samples 4", *evaluate, "--samples", "7")
        self.assertEqual(self.result(*evaluate, "--samples", "8")["samples"], 8)

    def test_image_folders(self) -> None:
        model = self.folder / "vit.pt"
        shutil.copy(MODELS / "vit_fused.trace.pt", model)
        self.write("vit.pt.preprocess.json", json.dumps(PRESET))
        for index, name in enumerate(("rgb8.png", "jpeg_444.jpg", "gray8.png")):
            folder = self.folder / "images" / f"n{index}"
            folder.mkdir(parents=True)
            shutil.copy(IMAGES / name, folder)
        classes = self.write("classes.tsv", "".join(f"{i}\tn{i}\tname {i}\n" for i in range(10)))
        report = self.result("evaluate", model, "--data", self.folder / "images", "--classes",
                             classes)
        self.assertEqual(report["samples"], 3)
        self.assertIn("bilinear", report["protocol"])


class InspectTest(program.ProgramTest):
    def test_model(self) -> None:
        report = self.result("inspect", DIGITS_MODEL, "--data", DIGITS_CALIB, "--bits", "w4a4")
        self.assertFalse(report["quantized"])
        self.assertTrue(report["proven"])
        kinds = [site["kind"] for site in report["sites"]]
        self.assertEqual({kind: kinds.count(kind) for kind in set(kinds)},
                         {"linear": 17, "patch_embedding": 1, "scores": 4, "attend": 4})
        self.assertEqual(report["coverage"]["mac_share"], 1.0)
        # 17 tokens x 64 x 192 for each qkv projection.
        qkv = next(site for site in report["sites"] if site["path"] == "blocks.0.attn.qkv")
        self.assertEqual(qkv["macs"], 17 * 64 * 192)
        self.assertEqual((qkv["weight_bits"], qkv["activation_bits"]), (4, 4))

    def test_runtime_of_an_artifact(self) -> None:
        self.succeed("quantize", DIGITS_MODEL, "--bits", "w4a8", "--calib", DIGITS_CALIB,
                     "--calib-samples", "16", "--exclude", "blocks.1.fc1", "-o", "q.pt")
        report = self.result("inspect", "q.pt", "--runtime")
        self.assertTrue(report["quantized"])
        fused = report["fused"]
        self.assertIn(fused["cpu_level"], ("generic", "avx2", "avx512vnni", "onednn"))
        sites = {site["path"]: site for site in fused["sites"] if site["part"] == "site"}
        self.assertEqual(len(sites), 26)
        left = sites.pop("blocks.1.fc1")
        self.assertEqual((left["form"], left["integer"]), ("float", False))
        self.assertTrue(left["reason"])
        self.assertEqual({site["form"] for site in sites.values()}, {"fused"})
        self.assertEqual(sites["blocks.0.attn.qkv"]["op"], "repquant::linear u8 x s4")
        self.assertEqual(sites["blocks.0.attn.qkv"]["macs"], 17 * 64 * 192)
        self.assertIn("fused into", sites["blocks.0.attn.scores"]["reason"])
        total = report["coverage"]["macs"]
        self.assertAlmostEqual(fused["fused_share"], 1 - 17 * 64 * 256 / total)
        self.assertEqual(fused["integer_share"], 1.0)
        done = self.succeed("inspect", "q.pt", "--runtime",
                            environment={"REPQUANT_CPU_LEVEL": "generic"})
        self.assertIn("instruction set generic", done.stdout)
        self.assertIn(f"fused operators: {100 * fused['fused_share']:.1f} %", done.stdout)
        self.assertNotIn("fused", self.result("inspect", "q.pt"))

    def test_runtime_says_what_stays_portable(self) -> None:
        self.succeed("quantize", DIGITS_MODEL, "--bits", "w8a8", "--set",
                     "attention.softmax_scaling=per_tensor", "--calib", DIGITS_CALIB,
                     "--calib-samples", "8", "--effort", "fast", "-o", "q.pt")
        fused = self.result("inspect", "q.pt", "--runtime")["fused"]
        sites = {site["path"]: site for site in fused["sites"] if site["part"] == "site"}
        self.assertEqual(sites["blocks.0.fc1"]["form"], "fused")
        self.assertEqual(sites["blocks.0.attn.attend"]["form"], "portable")
        self.assertIn("one scale per tensor", sites["blocks.0.attn.attend"]["reason"])
        self.assertLess(fused["fused_share"], 1.0)

    def test_runtime_of_weights_only(self) -> None:
        self.succeed("quantize", DIGITS_MODEL, "--bits", "w4a16", "--calib", DIGITS_CALIB,
                     "--calib-samples", "8", "-o", "q.pt")
        fused = self.result("inspect", "q.pt", "--runtime")["fused"]
        sites = {site["path"]: site for site in fused["sites"]}
        self.assertEqual(sites["blocks.0.fc1"]["form"], "fused")
        self.assertEqual(sites["blocks.0.fc1"]["op"], "repquant::weight_only_linear s16 x s4")
        self.assertFalse(sites["blocks.0.fc1"]["integer"])
        self.assertEqual(sites["blocks.0.attn.scores"]["form"], "float")
        self.assertTrue(sites["blocks.0.attn.scores"]["reason"])
        self.assertNotIn("portable", {site["form"] for site in fused["sites"]})
        self.assertGreater(fused["fused_share"], 0.9)
        self.assertEqual(fused["integer_share"], 0.0)

    def test_runtime_needs_an_artifact(self) -> None:
        self.fails(4, "only an artifact of repquant has a fused form", "inspect", DIGITS_MODEL,
                   "--runtime")
        self.fails(5, "missing.pt", "inspect", "missing.pt", "--runtime")

    def test_structure_only(self) -> None:
        report = self.result("inspect", DIGITS_MODEL)
        self.assertFalse(report["proven"])
        self.assertIsNone(report["coverage"]["mac_share"])

    def test_random_input(self) -> None:
        report = self.result("inspect", DIGITS_MODEL, "--input-shape", "1,8,8")
        self.assertEqual(report["coverage"]["mac_share"], 1.0)

    def test_exclude_shows_as_gap(self) -> None:
        coverage = self.result("inspect", DIGITS_MODEL, "--data", DIGITS_CALIB, "--exclude",
                               "blocks.*.fc1")["coverage"]
        self.assertEqual(len(coverage["not_quantized"]), 4)
        self.assertTrue(all(gap["requested"] for gap in coverage["not_quantized"]))
        share = 4 * 17 * 64 * 256 / coverage["macs"]
        self.assertAlmostEqual(coverage["mac_share"], 1 - share)


class QuantizeTest(program.ProgramTest):
    def quantize(self, *arguments: object) -> dict:
        return self.result("quantize", DIGITS_MODEL, "--calib", DIGITS_CALIB, *arguments)

    def test_report_and_accuracy(self) -> None:
        for bits, least, ratio in (("w8a8", 0.99, 0.75), ("w4a4", 0.95, 0.70)):
            with self.subTest(bits):
                report = self.quantize("--bits", bits, "-o", "out.pt", "--force")
                self.assertEqual(report["coverage"]["mac_share"], 1.0)
                self.assertEqual(len(report["sites"]), 26)
                self.assertLess(report["fold_deviation"], 1e-3)
                self.assertTrue(report["checks"])
                self.assertTrue(all(check["passed"] for check in report["checks"]))
                self.assertGreater(report["time_multiple"], 0)
                self.assertGreater(report["peak_memory_bytes"], 10**7)
                size = (self.folder / "out.pt").stat().st_size
                self.assertEqual(report["output_bytes"], size)
                self.assertLess(report["size_ratio"], ratio)
                evaluated = self.result("evaluate", "out.pt", "--data", DIGITS_TEST,
                                        "--reference", DIGITS_MODEL)["models"][0]
                self.assertGreaterEqual(evaluated["agreement"]["value"], least)

    def test_default_output_stands_beside_the_model(self) -> None:
        model = self.folder / "sub" / "digits.pt"
        model.parent.mkdir()
        shutil.copy(DIGITS_MODEL, model)
        self.succeed("quantize", "sub/digits.pt", "--bits", "w4a4", "--calib", DIGITS_CALIB,
                     "--calib-samples", "16")
        self.assertTrue((self.folder / "sub" / "digits.w4a4.pt").is_file())

    def test_text_report(self) -> None:
        done = self.succeed("quantize", DIGITS_MODEL, "--bits", "w4a4", "--calib", DIGITS_CALIB,
                            "--calib-samples", "16", "-o", "out.pt", "-v", "--exclude", "head")
        for text in ("multiply-adds", "blocks.0.attn.qkv", "excluded by the recipe", "peak memory",
                     "times the FP32 model", "dB against FP32"):
            self.assertIn(text, done.stdout)

    def test_threads_give_the_same_figures(self) -> None:
        self.quantize("--calib-samples", "16", "-o", "q.pt")
        figures = []
        for threads in ("1", "3"):  # batches are what runs side by side; the last one is shorter
            report = self.result("evaluate", "q.pt", "--data", DIGITS_TEST, "--reference",
                                 DIGITS_MODEL, "--form", "portable,fused", "--batch-size", "37",
                                 "--threads", threads)
            for model in [report["reference"], *report["models"]]:
                self.assertGreater(model.pop("seconds"), 0)
                figures.append({key: value for key, value in model.items()
                                if "second" not in key and "latency" not in key})
        self.assertEqual(figures[:3], figures[3:])

    def test_threads_give_the_same_bytes(self) -> None:
        contents = []
        for threads in ("1", "2", "2"):
            self.quantize("--bits", "w4a4", "--calib-samples", "32", "--threads", threads, "-o",
                          "out.pt", "--force")
            contents.append((self.folder / "out.pt").read_bytes())
        self.assertEqual(contents[0], contents[1])
        self.assertEqual(contents[1], contents[2])

    def test_synthetic_is_asked_for_and_said(self) -> None:
        report = self.result("quantize", DIGITS_MODEL, "--calib", "synthetic", "--input-shape",
                             "1,8,8", "--calib-samples", "16", "-o", "out.pt")
        self.assertTrue(report["synthetic"])
        self.assertIn("synthetic", report["protocol"])
        self.assertIn("synthetic", json.dumps(self.result("inspect", "out.pt")))

    def test_preset_travels_with_the_artifact(self) -> None:
        model = self.folder / "vit.pt"
        shutil.copy(MODELS / "vit_fused.trace.pt", model)
        self.write("vit.pt.preprocess.json", json.dumps(PRESET))
        images = self.folder / "images"
        images.mkdir()
        for path in sorted(IMAGES.glob("rgb*.png")):
            shutil.copy(path, images)
        self.succeed("quantize", model, "--calib", images, "-o", "out.pt")
        evaluated = self.result("evaluate", "out.pt", "--data", images, "--reference", model)
        self.assertIn("bilinear", evaluated["protocol"])
        self.assertGreater(evaluated["models"][0]["sqnr_db"], 20)

    def test_two_inputs(self) -> None:
        report = self.result("quantize", MODELS / "planted.trace.pt", "--bits", "w8a8", "--calib",
                             MODELS / "planted_calib.npz", "-o", "out.pt")
        self.assertEqual(report["coverage"]["mac_share"], 1.0)
        evaluated = self.result("evaluate", "out.pt", "--data", MODELS / "planted_eval.npz",
                                "--reference", MODELS / "planted.trace.pt")
        # The model is sensitive by design: 8-bit images alone leave its FP32 form at 17 dB.
        self.assertGreater(evaluated["models"][0]["sqnr_db"], 12)

    def test_artifact_is_not_quantized_again(self) -> None:
        self.quantize("--calib-samples", "16", "-o", "out.pt")
        self.fails(4, "already quantized", "quantize", "out.pt", "--calib", DIGITS_CALIB, "-o",
                   "again.pt")

    def test_inspect_artifact(self) -> None:
        self.quantize("--bits", "w4a4", "--calib-samples", "16", "-o", "out.pt")
        report = self.result("inspect", "out.pt")
        self.assertTrue(report["quantized"])
        self.assertEqual(len(report["sites"]), 26)
        text = self.succeed("inspect", "out.pt").stdout
        for word in ("w4a4", "blocks.0.attn.qkv", "integer"):
            self.assertIn(word, text)


if __name__ == "__main__":
    support.main()
