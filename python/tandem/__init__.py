"""Tandem: language models in this process, by the C library, and the server in the background.

    with tandem.Model("model.gguf") as model:
        print(model.generate("The capital of France is", max_tokens=16).text)

    with tandem.Server("model.gguf") as server:
        ...  # any client of OpenAI's, at server.base_url
"""
from ._library import API_VERSION, Error, library_path, version
from .model import AdapterInfo, Answer, Call, Event, Generation, Model, ModelInfo, Options, Stream, Usage, set_log
from .server import Server

__all__ = ["API_VERSION", "AdapterInfo", "Answer", "Call", "Error", "Event", "Generation", "Model", "ModelInfo", "Options",
           "Server", "Stream", "Usage", "library_path", "set_log", "version"]
