"""In: the log of a run, and the folder of an evaluation. Out: a report in Markdown, and one page of HTML.

`command` reads both (`inputs`) and writes the files. `markdown` and `page` say the same in two forms, and
`plots` has what is drawn. Nothing comes after this folder.
"""
