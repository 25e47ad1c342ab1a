"""Ingests the same PDFs with Inglenook and with the same pipeline in Python, in turn, and prints how they compare.

    cargo build --release --bin inglenook --example ingest_stages
    pip install pypdf fonttools sentence-transformers
    python compare.py target/release MODEL FOLDER [--copies N] [--rounds N] [--threads N] [--batch-sizes N,...]

MODEL is a folder that both read (config.json, tokenizer.json, model.safetensors ...). The PDFs of FOLDER are copied into a
temporary folder, several times, each copy with other bytes at its end so that no two files are the same. The time of
Inglenook is that of the whole command, start and loading included; Python's begins when its model is loaded. Of several
rounds the best counts, since whatever else runs on the machine only makes one slower.
"""

import argparse
import json
import pathlib
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time

import pypdf

HERE = pathlib.Path(__file__).parent


def readable(path):
    """Pages of a PDF that both sides can read; 0 if one of them cannot."""
    try:
        return sum(1 for page in pypdf.PdfReader(path).pages if page.extract_text().strip())
    except Exception:
        return 0


def copies(folder, into, num):
    made = []
    for path in sorted(folder.glob("*.pdf")):
        if readable(path) == 0:
            continue
        for copy in range(num):
            target = into / f"{path.stem}-{copy}.pdf"
            shutil.copyfile(path, target)
            target.chmod(0o600)
            with target.open("ab") as file:
                file.write(f"\n% copy {copy}\n".encode())
            made.append(str(target))
    return made


def ours(options, files):
    program = options.target / "inglenook"
    with tempfile.TemporaryDirectory() as data:
        command = [program, "--data-dir", data, "--embedding-model", options.model, "--chat-model", "none", "--device", "cpu",
                   "--threads", str(options.threads), "ingest", *files]
        begun = time.perf_counter()
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        seconds = time.perf_counter() - begun
        if done.returncode != 0:
            print(done.stderr, file=sys.stderr)
        database = sqlite3.connect(next(pathlib.Path(data).glob("*.db")))
        passages, tokens = database.execute("SELECT count(*), sum(num_tokens) FROM chunks").fetchone()
        pages, = database.execute("SELECT sum(pages_total) FROM documents WHERE status = 'completed'").fetchone()
        database.close()
    return {"pages": pages, "passages": passages, "tokens": tokens, "seconds": seconds}


def theirs(options, files, batch_size):
    command = [sys.executable, HERE / "python_pipeline.py", options.model, "--threads", str(options.threads),
               "--batch-size", str(batch_size), *files]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout)


def stages(options, files):
    command = [options.target / "examples" / "ingest_stages", options.target / "inglenook", options.model,
               str(options.threads), *files]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def shown(name, it):
    print(f"{name}: {it['pages']} pages, {it['passages']} passages, {it['tokens']} tokens in {it['seconds']:.1f} s: "
          f"{it['pages'] / it['seconds']:.1f} pages/s, {it['tokens'] / it['seconds']:.0f} tokens/s", flush=True)


def shown_stages(name, stages):
    total = sum(stages.values())
    parts = ", ".join(f"{stage} {seconds:.1f} s ({seconds / total:.0%})" for stage, seconds in stages.items())
    print(f"{name}: {parts}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=pathlib.Path, help="the folder that the program was built into")
    parser.add_argument("model")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--copies", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-sizes", default="16,32,64")
    options = parser.parse_args()
    options.target = options.target.absolute()
    with tempfile.TemporaryDirectory() as folder:
        files = copies(options.folder, pathlib.Path(folder), options.copies)
        once = files[:: options.copies]
        sizes = {int(size): theirs(options, once, int(size))["stages"]["embedding"] for size in options.batch_sizes.split(",")}
        batch_size = min(sizes, key=sizes.get)
        print("Python's embedding by batch size:", {size: round(seconds, 1) for size, seconds in sizes.items()}, flush=True)
        results = {"inglenook": [], "python": []}
        for _ in range(options.rounds):
            results["inglenook"].append(ours(options, files))
            shown("inglenook", results["inglenook"][-1])
            results["python"].append(theirs(options, files, batch_size))
            shown("python", results["python"][-1])
        best = {side: min(all, key=lambda it: it["seconds"]) for side, all in results.items()}
        shown_stages("python, one after the other", best["python"]["stages"])
        alone = stages(options, files)["stages"]
        shown_stages("inglenook, one after the other", alone)
        print(f"inglenook's embedder alone takes {alone['embedding']:.1f} s, "
              f"{alone['embedding'] / best['inglenook']['seconds']:.0%} of its ingestion", flush=True)
        rates = {side: it["pages"] / it["seconds"] for side, it in best.items()}
        print(f"pages/s: inglenook {rates['inglenook']:.1f}, python {rates['python']:.1f}, "
              f"ratio {rates['inglenook'] / rates['python']:.2f}")


if __name__ == "__main__":
    main()
