"""One benchmark for two kinds of servers: our tagger over gRPC, and any OpenAI-compatible server that writes the answer as JSON.

    python -m build.bench measure grpc://localhost:8001/codes --concurrency 1 4 --rate 20 --json ours.json
    python -m build.bench measure http://gpu-box:8000/v1 --concurrency 1 4 --rate 20 --json theirs.json --html theirs.html
    python -m build.bench compare theirs.json ours.json --html verdict.html

Who asks when is the client library's (`pika_tagger._load`), and so are percentiles and goodput. In here: the two kinds of endpoints
(`endpoints`, `tagger_endpoint`, `chat_endpoint`, `chat_request`, `asked`), a run (`measure`), its figures and what is to be said about
them (`metrics`, `findings`, `meanings`), how they are shown (`block`, `report`, `pictures`), files (`session`, `vllm_result`), and two
runs beside each other (`compare`, `bootstrap`, `verdict`). `__main__` is the command line, `task` what doit runs.
"""
