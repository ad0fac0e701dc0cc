"""A page for prompt work, on this machine only: a dialogue in, the tag of the running server out, beside that of another prompt file.

`python -m build.playground` starts it (`doit playground`). `web` is the border with the browser and says who may ask, `columns` asks the
server and shows the prompt, `own_file` keeps what was marked. The page itself is in `page/`: plain files, nothing from elsewhere.
"""
