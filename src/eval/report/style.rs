//! How the page looks: by the reader's choice of light or dark, readable without colours.

pub const STYLE: &str = "
:root { color-scheme: light dark; --ground: #fbfaf8; --text: #22252b; --quiet: #5b626e; --line: #d9d6d0; --panel: #ffffff;
  --bar: #3b6ea5; --first: #7a828e; --better: #2f7d4f; --worse: #b3452f; --mark: #fff1d6; }
@media (prefers-color-scheme: dark) { :root { --ground: #16181c; --text: #e6e4df; --quiet: #a3a9b3; --line: #363a42;
  --panel: #1e2126; --bar: #6ea3dc; --first: #8b93a0; --better: #63b886; --worse: #e2836d; --mark: #4a3a17; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 2rem 1.25rem 4rem; background: var(--ground); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .25rem; } h2 { font-size: 1.25rem; margin: 2.75rem 0 .75rem; }
h3 { font-size: 1rem; margin: 0 0 .5rem; } p { margin: .5rem 0; max-width: 46rem; }
a { color: var(--bar); } .quiet { color: var(--quiet); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: .9rem;
  font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--quiet); padding-bottom: .5rem; }
th, td { text-align: left; vertical-align: top; padding: .4rem .75rem .4rem 0; border-bottom: 1px solid var(--line); }
thead th { border-bottom: 2px solid var(--line); } th { font-weight: 600; } th small { font-weight: 400; }
td.n, th.n { text-align: right; white-space: nowrap; padding-right: 1rem; }
td small { display: block; color: var(--quiet); }
.significant { background: var(--mark); }
.plots { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); }
figure { margin: 0; background: var(--panel); border: 1px solid var(--line); border-radius: .5rem; padding: 1rem; }
figcaption { margin-bottom: .5rem; } figcaption small { display: block; color: var(--quiet); }
svg { display: block; width: 100%; height: auto; } svg text { fill: var(--text); font: 13px system-ui, sans-serif; }
svg .tick { fill: var(--quiet); font-size: 11px; } svg .axis { stroke: var(--line); }
svg .bar { fill: var(--bar); } svg .first { fill: var(--first); } svg .whisker { stroke: var(--text); stroke-width: 1.5; }
svg .better { fill: var(--better); } svg .worse { fill: var(--worse); }
details { background: var(--panel); border: 1px solid var(--line); border-radius: .5rem; padding: .75rem 1rem;
  margin-bottom: .75rem; }
summary { cursor: pointer; font-weight: 600; } summary span { font-weight: 400; color: var(--quiet); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem; margin: .75rem 0; font-size: .9rem; }
dt { color: var(--quiet); } dd { margin: 0; overflow-wrap: anywhere; } ol { margin: .25rem 0; padding-left: 1.5rem; }
li { margin-bottom: .4rem; font-size: .9rem; } code { font-size: .85em; overflow-wrap: anywhere; }
@media print { details { break-inside: avoid; } }
";
