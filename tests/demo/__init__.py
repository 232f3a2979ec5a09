"""`make demo`: six weeks of a school go through forebay in seconds, watched from outside.

`__main__` starts, sends and checks; `watching` shows how far each stage is; `showing` and `grid`
what came of it; `tried` what became of a repeat and of a forgery; `ask` puts further questions.
"""
