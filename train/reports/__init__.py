"""In: the log of a run, and the folder of an evaluation. Out: a report in Markdown, and one page of HTML.

`command` reads both and writes the files. `markdown` and `page` say the same in two forms; `plots` draws,
`mistakes` reads the worst images again. Nothing comes after this folder.
"""
