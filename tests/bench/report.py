"""What was measured, as tables in markdown and as plots (gnuplot).

Figures come as {(arrangement, body bytes, connections): {server: [figures of each round]}}. A ratio is the median of the rounds' ratios.
"""
import shutil
import statistics
import subprocess

import measure


def ratio(by_server, name, other, figure):
    return statistics.median(a[figure] / b[figure] for a, b in zip(by_server[name], by_server[other]))


def _header(*cells):
    return [f"| {' | '.join(cells)} |", "|" + "---|" * len(cells)]


def _row(*cells):
    return f"| {' | '.join(cells)} |"


def servers(figures):
    """One table an arrangement and body, all servers in rows."""
    lines = []
    for arrangement, body in dict.fromkeys((a, b) for a, b, _ in figures):
        columns = {c: by_server for (a, b, c), by_server in figures.items() if (a, b) == (arrangement, body)}
        lines += ["", f"**{arrangement}, {body} B**", ""]
        lines += _header("server", *(cell for c in columns for cell in (f"{c}: CPU µs", "× floor", "requests/s", "p50 / p99 µs", "p99 × floor")))
        for name in dict.fromkeys(n for by_server in columns.values() for n in by_server):
            cells = []
            for by_server in columns.values():
                if name not in by_server:
                    cells += ["–"] * 5
                    continue
                f = measure.medians(by_server[name])
                cells += [f"{f['cpu_us']:.1f}", f"{ratio(by_server, name, 'floor', 'cpu_us'):.2f}", f"{f['requests_per_s']:.0f}", f"{f['p50_us']:.0f} / {f['p99_us']:.0f}",
                          f"{ratio(by_server, name, 'floor', 'p99_us'):.2f}"]
            lines.append(_row(name, *cells))
    return lines


def against(figures, ours, peers, store=False):
    """`ours` divided by each peer: CPU / requests per second / p99 (/ Redis' CPU)."""
    what = "CPU / requests/s / p99" + (" / Redis' CPU" if store else "")
    figures = {case: by_server for case, by_server in figures.items() if ours in by_server}
    if not figures:
        return []
    lines = ["", f"**{ours} ÷ each peer** ({what})", ""]
    lines += _header("peer", *(f"{a}, {b} B, {c}" for a, b, c in figures))
    for peer in peers:
        cells = []
        for by_server in figures.values():
            wanted = ["cpu_us", "requests_per_s", "p99_us"] + ["store_cpu_us"] * store
            cells.append(" / ".join(f"{ratio(by_server, ours, peer, figure):.2f}" for figure in wanted) if peer in by_server else "–")
        lines.append(_row(peer, *cells))
    return lines


def store_cpu(figures, names):
    """Redis' own CPU per request under each server that asks it."""
    lines = ["", "**CPU of Redis, µs per request**", ""]
    lines += _header("under", *(f"{a}, {b} B, {c}" for a, b, c in figures))
    for name in names:
        lines.append(_row(name, *(f"{measure.medians(by_server[name])['store_cpu_us']:.1f}" if name in by_server else "–" for by_server in figures.values())))
    return lines


def _gnuplot(script):
    if shutil.which("gnuplot") is None:
        print("no plot: gnuplot is not installed (gnuplot-nox)")
        return
    subprocess.run(["gnuplot"], input=script, text=True, check=True)


def plot_servers(figures, file):
    """CPU, throughput and latencies by server; one group of bars an arrangement, body and number of connections."""
    names = [n for n in next(iter(figures.values())) if all(n in by_server for by_server in figures.values())]
    panels = {"cpu_us": "CPU µs per request", "requests_per_s": "requests/s", "p50_us": "p50 µs", "p99_us": "p99 µs"}
    script = f"set terminal pngcairo size 1500,1900 font 'sans,11' noenhanced background 'white'\nset output '{file}'\nset multiplot layout {len(panels)},1\n"
    script += "set style data histograms\nset style fill solid 0.8\nset key outside right\nset xtics rotate by -20\nset grid ytics\nset logscale y\n"
    bars = (f"plot for [i=2:{len(names) + 1}] $data using i:xtic(1) title columnheader(i) "
            f"lc rgb hsv2rgb((i - 2.0) / {len(names)}, i % 2 ? 0.5 : 0.9, i % 3 ? 0.9 : 0.6)")
    for figure, title in panels.items():
        rows = ["case " + " ".join(f'"{n}"' for n in names)]
        for (arrangement, body, connections), by_server in figures.items():
            rows.append(f'"{arrangement}, {body} B, {connections}" ' + " ".join(f"{measure.medians(by_server[n])[figure]:.3f}" for n in names))
        rows = "\n".join(rows)
        script += f"set ylabel '{title}'\n$data << EOD\n{rows}\nEOD\n{bars}\n"
    _gnuplot(script + "unset multiplot\n")


def plot_growth(lines, file):
    """`lines`: {title of a panel: {title of a line: [(x, y), ...]}}, x on a logarithmic scale."""
    script = f"set terminal pngcairo size 1100,420 font 'sans,11' background 'white'\nset output '{file}'\nset multiplot layout 1,{len(lines)}\n"
    script += "set logscale x\nset yrange [0:*]\nset grid\nset key bottom right\nset ylabel 'CPU µs per request'\nset style data linespoints\nset format x '10^{%L}'\n"
    for title, curves in lines.items():
        data = "".join(f"${chr(97 + i)} << EOD\n" + "\n".join(f"{x} {y:.3f}" for x, y in points) + "\nEOD\n" for i, points in enumerate(curves.values()))
        script += data + f"set xlabel '{title}'\nplot " + ", ".join(f"${chr(97 + i)} title '{name}'" for i, name in enumerate(curves)) + "\n"
    _gnuplot(script + "unset multiplot\n")
