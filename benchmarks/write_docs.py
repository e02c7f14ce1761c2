"""Write docs/benchmarks.md, and the README's headline, from the JSON files in benchmarks/results.

No number in the documents is typed by hand: measure again, then run this again.
"""

import json
import sys
from typing import Any

from processes import ROOT

RESULTS = ROOT / "benchmarks/results"
PAGE = ROOT / "docs/benchmarks.md"
README = ROOT / "README.md"
BEGIN, END = "<!-- headline begin -->", "<!-- headline end -->"

SECTIONS = {
    "time_to_solve": (
        "Time to solve CartPole-v1",
        "From the start of the process. Rule (i), *verified*: the greedy policy reaches a mean of "
        "475 over 100 fresh episodes; poise is timed from outside with everything written, its "
        "own evaluations included, Stable-Baselines3 without its checks. Rule (ii), *training*: "
        "the mean of the last 100 training episodes reaches 475. Runs are interleaved, seed by "
        "seed.",
    ),
    "race": (
        "Time to a score on LunarLander and HalfCheetah",
        "`poise train ENV` with its preset, and Stable-Baselines3's PPO with rl-zoo's settings, "
        "until 100 fresh episodes reach the score.",
    ),
    "seeds": (
        "Steps to solve CartPole-v1",
        "Default settings, one process a seed; a run counts as solved when a verification on 100 "
        "fresh episodes of Gymnasium's own environment reaches 475.",
    ),
    "throughput": (
        "Training throughput",
        "Environment steps per second that are acted, differentiated and applied, with server and "
        "journal.",
    ),
    "cores": (
        "Sixteen cores, and a GPU",
        "How training scales with the number of threads, and what the same commands reach on a "
        "GPU.",
    ),
    "whole_runs": (
        "Whole runs",
        "`poise train` beside the least that an A3C run can be (`benchmarks/peers/minimal_a3c.py`: "
        "one XLA call a cycle, Adam under a lock, a list of versions), and the share of the wall "
        "time that evaluations take.",
    ),
    "scaling": (
        "Workers and parameters",
        "How throughput grows with the number of threads, and falls with the size of the network.",
    ),
    "worlds": (
        "Hosted environments, Box2D, MuJoCo, Atari, processes",
        "poise beside Stable-Baselines3 and ale-py in the same run.",
    ),
    "envpool": (
        "EnvPool against Gymnasium",
        "The evidence by which EnvPool's environments are admitted as `--world envpool`.",
    ),
    "envpool_newest_mujoco": (
        "EnvPool against Gymnasium with the newest MuJoCo",
        "The same, with a newer MuJoCo beside it, on which scores are then measured.",
    ),
}


def cell(value: Any) -> str:
    """One table cell."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def markdown(header: list[str], rows: list[list[Any]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *([cell(one) for one in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def summary_table(summary: Any) -> str:
    """Return a result file's summary, a row a program, as a table."""
    if isinstance(summary, dict):
        summary = [{"": name, **row} for name, row in summary.items()]
    columns = [name for name in summary[0] if not isinstance(summary[0][name], list | dict)]
    header = [name.replace("_", " ") for name in columns]
    return markdown(header, [[row.get(name) for name in columns] for row in summary])


def section(name: str, content: dict[str, Any]) -> str:
    """Return one result file as a section of the page."""
    title, text = SECTIONS[name]
    about = content["machine"]
    parts = [f"## {title}", text, summary_table(content["summary"])]
    if content.get("bars"):
        rows = [
            [bar["name"], bar["figure"], bar["wanted"], bar["verdict"], bar["note"]]
            for bar in content["bars"]
        ]
        parts.append(markdown(["bar", "figure", "wanted", "", ""], rows))
    parts.append("\n".join(f"- {note}" for note in content["notes"]))
    parts.append(
        f"`{content['command']}`, {content['date']}; {about['processor']}, {about['cores']} "
        f"cores, {about['memory_gib']} GiB, Python {about['python']}."
    )
    return "\n\n".join(parts)


def headline(results: dict[str, dict[str, Any]]) -> str:
    """Return the README's headline, of what was measured."""
    lines = []
    times = results.get("time_to_solve", {}).get("summary", {})
    for name, row in times.items():
        if row["median_seconds"] is not None:
            lines.append(
                f"| {name} | {row['median_seconds']:.1f} s | {cell(row['median_steps'])} | "
                f"{row['solved']} of {row['runs']} |"
            )
    if not lines:
        return "Run the scripts in `benchmarks/`."
    about = results["time_to_solve"]
    text = (
        f"CartPole-v1 on {about['machine']['cores']} cores ({about['machine']['processor']}), "
        "medians of interleaved runs,\nfrom the start of the process: (i) until the mean of 100 "
        "fresh episodes of the greedy policy is 475,\n(ii) until the mean of the last 100 training "
        "episodes is.\n\n"
        "| | time | steps | solved |\n| --- | --- | --- | --- |\n" + "\n".join(lines)
    )
    seeds = results.get("seeds", {}).get("summary", {}).get("poise")
    if seeds:
        text += (
            f"\n\nOf {seeds['runs']} seeds, {seeds['solved']} solve it, after a median of "
            f"{cell(seeds['median'])} steps (at most {cell(seeds['max'])})."
        )
    throughput = results.get("throughput", {}).get("summary", [])
    if throughput:
        best = max(throughput, key=lambda row: row["steps_per_second"])
        text += (
            f"\nIt trains at {cell(best['steps_per_second'])} steps/s with {best['workers']} "
            f"workers of {best['envs_per_worker']} environments."
        )
    return text + "\n\nThe whole tables, with what missed its bar: "


def main() -> int:
    """Write both documents."""
    results = {}
    for name in SECTIONS:
        path = RESULTS / f"{name}.json"
        if path.exists():
            results[name] = json.loads(path.read_text())
    intro = (
        "# Benchmarks\n\nGenerated by `python benchmarks/write_docs.py` from "
        "`benchmarks/results/*.json`; every script runs the peer beside poise in the same run. "
        "The machines are shared and noisy: read ratios and medians. A run that does not solve "
        "counts as infinitely slow."
    )
    PAGE.write_text("\n\n".join([intro, *(section(*item) for item in results.items())]) + "\n")
    readme = README.read_text()
    if BEGIN in readme and END in readme:
        before, _, rest = readme.partition(BEGIN)
        after = rest.partition(END)[2]
        link = headline(results) + "[docs/benchmarks.md](docs/benchmarks.md)."
        README.write_text(f"{before}{BEGIN}\n{link}\n{END}{after}")
    print(f"wrote {PAGE.relative_to(ROOT)} from {', '.join(results) or 'nothing'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
