"""How the embedded model is made: corpus, tokenizer, training. Nothing here is needed to build or serve a model that exists."""
