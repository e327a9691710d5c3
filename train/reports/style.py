"""The look of the page: light or dark as the reader's system is, for wide and narrow windows.

A table that is cut has a shadow at its right edge, for many browsers hide scroll bars: one background stays
with the edge, and another, which scrolls with the table, covers it at the table's end.
"""

STYLE = """
:root {
  color-scheme: light dark;
  --ink: #1c2128; --faint: #5d6673; --paper: #f5f6f8; --card: #ffffff; --line: #dde1e7; --wrong: #c22f45;
  --shade: rgb(0 0 0 / 0.3);
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e4e8ee; --faint: #99a3b1; --paper: #14171c; --card: #1d2128; --line: #333a45; --wrong: #ff7b8c;
    --shade: rgb(0 0 0 / 0.85);
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
}
main { max-width: 1160px; margin: 0 auto; padding: 24px 16px 48px; display: grid; gap: 20px; }
main > * { min-width: 0; }
header h1 { margin: 0 0 8px; font-size: 30px; line-height: 1.2; overflow-wrap: anywhere; }
section {
  background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 18px 20px;
}
h2 { margin: 0 0 12px; font-size: 20px; }
h3 { margin: 20px 0 8px; font-size: 16px; }
p { margin: 0 0 12px; max-width: 80ch; overflow-wrap: anywhere; }
.note { border-left: 4px solid #e0762f; padding: 2px 0 2px 14px; margin: 0 0 14px; white-space: pre-line; }
.lacking, figcaption, .interval, details { color: var(--faint); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 16px; margin: 0; }
dt { color: var(--faint); }
dd { margin: 0; overflow-wrap: anywhere; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 140px), 1fr)); gap: 14px; }
.cards > div { border: 1px solid var(--line); border-radius: 10px; padding: 12px 14px; }
.value { font-size: 30px; line-height: 1.2; font-variant-numeric: tabular-nums; }
.interval { font-size: 14px; font-variant-numeric: tabular-nums; }
.scrolls {
  overflow-x: auto;
  background:
    linear-gradient(to left, var(--card) 50%, transparent) right / 40px 100% no-repeat local,
    linear-gradient(to left, var(--shade), transparent) right / 18px 100% no-repeat scroll;
}
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 8px; text-align: right; border-bottom: 1px solid var(--line); vertical-align: top; }
td { white-space: nowrap; line-height: 1.35; }
th { font-weight: 600; }
thead th { vertical-align: bottom; color: var(--faint); }
th:first-child { text-align: left; position: sticky; left: 0; background: var(--card); }
th .name, td .under { width: max-content; max-width: 180px; overflow-wrap: anywhere; white-space: normal; }
td .under { max-width: 112px; margin-left: auto; color: var(--faint); font-weight: 400; }
tr.ours th { background: color-mix(in srgb, var(--line) 35%, var(--card)); }
tr.ours td { background: color-mix(in srgb, var(--line) 35%, transparent); }
tr.ours td { font-weight: 600; }
details { margin-top: 14px; font-size: 14px; overflow-wrap: anywhere; }
summary { cursor: pointer; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 330px), 1fr)); gap: 18px; }
.small { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 300px), 1fr)); gap: 14px; }
.thumbs { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 150px), 1fr)); gap: 14px; }
.wide { display: grid; gap: 18px; }
figure { margin: 0; min-width: 0; }
figcaption { font-size: 14px; overflow-wrap: anywhere; margin-top: 4px; }
svg { display: block; width: 100%; height: auto; overflow: hidden; }
svg text { font-family: inherit !important; }
img { display: block; max-width: 100%; height: auto; margin: 0 auto; border-radius: 6px; }
.thumbs img, .thumbs .none {
  width: 100%; aspect-ratio: 1; object-fit: contain; background: var(--paper); border: 1px solid var(--line);
  border-radius: 6px;
}
.thumbs .none { padding: 10px; font-size: 13px; overflow: hidden; overflow-wrap: anywhere; }
.thumbs strong { color: var(--wrong); font-variant-numeric: tabular-nums; }
.legend { list-style: none; margin: 6px 0 0; padding: 0; display: flex; flex-wrap: wrap; gap: 2px 16px; }
.legend li { overflow-wrap: anywhere; min-width: 0; }
.swatch { display: inline-block; width: 12px; height: 12px; border-radius: 3px; margin-right: 6px; }
@media (max-width: 600px) {
  header h1 { font-size: 24px; }
  section { padding: 14px; }
  dl { grid-template-columns: 1fr; }
  dd { margin-bottom: 6px; }
  .thumbs { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  th .name { max-width: 110px; }
}
@media print {
  section { break-inside: avoid; }
}
"""
