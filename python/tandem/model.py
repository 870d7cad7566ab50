"""Models and generations. Names are those of tandem.h; what is JSON text there is a value here."""
import dataclasses
import json
import math
import os
import queue
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, TypedDict, Union

from ._library import Error, error_of, ffi, lib, text

if TYPE_CHECKING:
    from typing_extensions import Unpack

Path = Union[str, "os.PathLike[str]"]
Message = Mapping[str, Any]
Prompt = Union[str, Sequence[int], Sequence[Message]]
"""A text, token ids, or the messages of a chat in OpenAI's shape."""


class Options(TypedDict, total=False):
    """What a request may say besides its prompt; tandem.h says what each means and is by default."""
    add_special_tokens: bool
    tools: Sequence[Mapping[str, Any]]
    tool_choice: str
    tool_name: str
    parallel_tool_calls: bool
    thinking: Optional[bool]
    reasoning_effort: str
    thinking_budget: int
    template_variables: Mapping[str, Any]
    continue_final_message: bool
    json_object: bool
    json_schema: Union[str, Mapping[str, Any]]
    regex: str
    grammar: str
    choices: Sequence[str]
    max_tokens: int
    min_tokens: int
    n_choices: int
    stops: Sequence[str]
    stop_ids: Sequence[int]
    ignore_eos: bool
    timeout_ms: int
    priority: int
    cache_prompt: bool
    seed: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    typical_p: float
    top_n_sigma: float
    presence_penalty: float
    frequency_penalty: float
    repetition_penalty: float
    xtc_probability: float
    xtc_threshold: float
    dry_multiplier: float
    dry_base: float
    dry_allowed_length: int
    dry_penalty_last_n: int
    bias: Mapping[int, float]
    adapter: str


JSON_OPTIONS = {"tools": "tools_json", "template_variables": "template_variables_json", "choices": "choices_json",
                "json_schema": "json_schema"}
TEXT_OPTIONS = {"tool_choice", "tool_name", "reasoning_effort", "regex", "grammar", "adapter"}


@dataclasses.dataclass(frozen=True)
class Usage:
    """Tokens."""
    prompt: int = 0
    cached: int = 0
    completion: int = 0
    reasoning: int = 0


@dataclasses.dataclass(frozen=True)
class Call:
    """A tool call. arguments: JSON text; fault: why it is none, or does not obey the tool's schema."""
    id: str
    name: str
    arguments: str
    fault: Optional[str] = None


@dataclasses.dataclass(frozen=True)
class Event:
    """kind: text, reasoning, call, arguments, call_end, finish, end."""
    kind: str
    choice: int = 0
    text: str = ""
    call: int = 0
    call_id: Optional[str] = None
    call_name: Optional[str] = None
    call_fault: Optional[str] = None
    finish: Optional[str] = None
    stop: Optional[str] = None
    usage: Usage = Usage()
    error: Optional[Error] = None


@dataclasses.dataclass
class Answer:
    """One choice of an answer. finish: stop, length, calls, cancelled, error. choices: all of them, this one included."""
    text: str = ""
    reasoning: str = ""
    calls: List[Call] = dataclasses.field(default_factory=list)
    finish: Optional[str] = None
    usage: Usage = Usage()
    choices: List["Answer"] = dataclasses.field(default_factory=list, repr=False)


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    architecture: str
    backend: str
    fingerprint: str
    tool_format: Optional[str]
    reasoning_format: Optional[str]
    has_chat_template: bool
    n_vocab: int
    n_context: int
    max_sequences: int
    bos: int
    eos: int
    n_params: int
    weights_size: int
    kv_size: int


@dataclasses.dataclass(frozen=True)
class AdapterInfo:
    """An adapter of a model. fingerprint: of answers with it; n_running: generations that have it now."""
    name: str
    fingerprint: str
    rank: int
    n_weights: int
    n_running: int
    alpha: float
    memory_size: int


KINDS = {1: "text", 2: "reasoning", 3: "call", 4: "arguments", 5: "call_end", 6: "finish", 7: "end"}
FINISHES = {0: None, 1: "stop", 2: "length", 3: "calls", 4: "cancelled", 5: "error"}


def _without_nul(raw: bytes, name: str) -> bytes:
    if b"\0" in raw:
        raise ValueError(f"'{name}' holds a NUL, where a text ends for the library")
    return raw


def _bytes(value: str, name: str) -> bytes:
    return _without_nul(value.encode("utf-8", errors="replace"), name)


class _Struct:
    """A struct of options, and what its members point to."""

    def __init__(self, name: str, init: Callable[[Any, int], None]):
        self.pointer = ffi.new(f"struct {name} *")
        self.members = {member for member, _ in ffi.typeof(f"struct {name}").fields}
        self.keep: List[Any] = []
        init(self.pointer, ffi.sizeof(f"struct {name}"))

    def set(self, name: str, value: Any) -> None:
        if name not in self.members or name == "size":
            raise TypeError(f"there is no option '{name}'")
        setattr(self.pointer, name, value)

    def set_text(self, name: str, value: str) -> None:
        self.set_bytes(name, _bytes(value, name))

    def set_bytes(self, name: str, value: bytes) -> None:
        buffer = ffi.new("char[]", value)
        self.keep.append(buffer)
        self.set(name, buffer)

    def set_array(self, name: str, count: str, kind: str, values: Sequence[Any]) -> None:
        array = ffi.new(f"{kind}[]", list(values))
        self.keep.append(array)
        self.set(name, array)
        self.set(count, len(values))


def _set_prompt(s: _Struct, prompt: Prompt) -> None:
    if isinstance(prompt, str):
        s.set_text("prompt", prompt)
    elif len(prompt) and isinstance(prompt[0], int):
        s.set_array("prompt_ids", "n_prompt_ids", "int32_t", prompt)
    else:
        s.set_text("messages_json", json.dumps(list(prompt), ensure_ascii=False))


def _set_option(s: _Struct, name: str, value: Any) -> None:
    if name == "thinking":
        s.set(name, -1 if value is None else int(value))
    elif value is None:
        return
    elif name in JSON_OPTIONS:
        s.set_text(JSON_OPTIONS[name], value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    elif name in TEXT_OPTIONS:
        s.set_text(name, value)
    elif name == "stops":
        if isinstance(value, str):
            raise TypeError("'stops' is a list of texts")
        texts = [ffi.new("char[]", _bytes(stop, name)) for stop in value]
        s.keep += texts
        s.set_array(name, "n_stops", "const char *", texts)
    elif name == "stop_ids":
        s.set_array(name, "n_stop_ids", "int32_t", value)
    elif name == "bias":
        s.set_array(name, "n_bias", "struct tandem_bias", [(int(id), float(bias)) for id, bias in value.items()])
    elif name == "seed":
        s.set("has_seed", True)
        s.set(name, value & 0xFFFFFFFFFFFFFFFF)
    elif name in Options.__annotations__:
        s.set(name, value)
    else:
        raise TypeError(f"there is no option '{name}'")


def _request(prompt: Prompt, options: Mapping[str, Any]) -> _Struct:
    s = _Struct("tandem_request", lib().tandem_request_init)
    _set_prompt(s, prompt)
    for name, value in options.items():
        _set_option(s, name, value)
    return s


def _usage(u: Any) -> Usage:
    return Usage(u.prompt, u.cached, u.completion, u.reasoning)


def _event(e: Any) -> Event:
    return Event(KINDS.get(int(e.kind), ""), e.choice, text(e.text, e.text_size) or "", e.call, text(e.call_id),
                 text(e.call_name), text(e.call_fault), FINISHES.get(int(e.finish)), text(e.stop), _usage(e.usage),
                 error_of(e.error) if e.error != ffi.NULL else None)


class _Handle:
    """What C gave, for any thread to use until it is freed: that waits for who uses it, unless that is who frees it."""

    def __init__(self, pointer: Any, name: str, free: Callable[[Any], None]):
        self._pointer, self._name, self._free = pointer, name, free
        self._process = os.getpid()
        self._changed = threading.Condition()
        self._users: List[int] = []  # threads
        self._closed = False

    def __enter__(self) -> Any:
        if os.getpid() != self._process:
            raise Error(f"The {self._name} is of another process: it did not come over the fork.", "INVALID")
        with self._changed:
            if self._closed:
                raise Error(f"The {self._name} is closed.", "INVALID")
            self._users.append(threading.get_ident())
        return self._pointer

    def __exit__(self, *_: Any) -> None:
        with self._changed:
            self._users.remove(threading.get_ident())
            self._changed.notify_all()
            pointer = self._take_if_unused()
        self._give_back(pointer)

    def _take_if_unused(self) -> Any:
        if not self._closed or self._users:
            return ffi.NULL
        pointer, self._pointer = self._pointer, ffi.NULL
        return pointer

    def _give_back(self, pointer: Any) -> None:
        if pointer != ffi.NULL:
            self._free(pointer)

    def free(self) -> None:
        if os.getpid() != self._process:
            return  # its threads are not here
        with self._changed:
            self._closed = True
            while self._users and threading.get_ident() not in self._users:
                self._changed.wait()
            pointer = self._take_if_unused()
        self._give_back(pointer)


class _ModelHandle(_Handle):
    """A callback may drop the last reference to its model, which cannot be freed on the thread of that callback."""

    def __init__(self, pointer: Any):
        super().__init__(pointer, "model", lib().tandem_model_free)
        self.event_thread = 0  # known from the first callback on

    def is_event_thread(self) -> bool:
        return self.event_thread == threading.get_ident()

    def _give_back(self, pointer: Any) -> None:
        if pointer != ffi.NULL and self.is_event_thread():
            threading.Thread(target=self._free, args=(pointer,)).start()
        else:
            super()._give_back(pointer)


@ffi.callback("bool(void *, const struct tandem_event *)")  # type: ignore[untyped-decorator]
def _on_event(arg: Any, event: Any) -> bool:
    generation = ffi.from_handle(arg)()
    return generation is not None and generation._take(event)


WAIT_SLICE = 0.05
"""Seconds that a wait is in C at once: in between Python sees to its signals."""


class Generation:
    """A request that runs, or has ended. close() it, or use it in a with statement: leaving that cancels what runs, and so
    does forgetting it."""

    def __init__(self, model: "Model", prompt: Prompt, on_event: Callable[[Event], Optional[bool]], options: Mapping[str, Any]):
        self._model, self._on_event = model, on_event  # the model lives as long as this does
        self._failure: Optional[BaseException] = None
        self._thread = 0  # that is in the callback
        self._self = ffi.new_handle(weakref.ref(self))
        request, error = _request(prompt, options), ffi.new("struct tandem_error *")
        with model._handle as pointer:
            handle = lib().tandem_generate(pointer, request.pointer, _on_event, self._self, error)
        if handle == ffi.NULL:
            raise error_of(error)
        self._handle = _Handle(handle, "generation", lib().tandem_generation_free)

    def _take(self, event: Any) -> bool:
        self._thread = self._model._handle.event_thread = threading.get_ident()
        try:
            kind = KINDS.get(int(event.kind))
            return kind is None or self._on_event(_event(event)) is not False
        except BaseException as e:  # it is raised where somebody waits
            self._failure = self._failure or e
            return False
        finally:
            self._thread = 0

    def cancel(self) -> None:
        """It ends soon, as cancelled. Does not wait."""
        try:
            with self._handle as pointer:
                lib().tandem_generation_cancel(pointer)
        except Error:
            pass  # it is closed

    def _has_ended(self, seconds: float) -> bool:
        try:
            with self._handle as pointer:
                return bool(lib().tandem_generation_wait(pointer, math.ceil(seconds * 1000)))
        except Error:
            return True  # it is closed

    def wait(self, timeout: Optional[float] = None) -> bool:
        """Until it has ended, at most so many seconds; False: it has not. Raises what on_event raised. In a callback of
        the model it does not wait."""
        until = math.inf if timeout is None or self._model._handle.is_event_thread() else time.monotonic() + timeout
        left = 0.0 if self._model._handle.is_event_thread() else until - time.monotonic()
        while not self._has_ended(min(max(left, 0.0), WAIT_SLICE)):
            if left <= 0:
                return False
            left = until - time.monotonic()
        if self._failure:
            failure, self._failure = self._failure, None
            raise failure
        return True

    def close(self) -> None:
        """Cancels what runs; afterwards no callback comes. In a callback it only cancels."""
        self.cancel()
        if self._thread != threading.get_ident():
            self._handle.free()

    def __enter__(self) -> "Generation":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            self._handle.free()


class Stream:
    """Events of a generation as they come: iterate over it, or over text(). Leaving it early cancels the generation."""

    def __init__(self, model: "Model", prompt: Prompt, options: Mapping[str, Any]):
        self._events: "queue.SimpleQueue[Optional[Event]]" = queue.SimpleQueue()  # None: no more will come
        self._generation = Generation(model, prompt, self._events.put, options)  # no reference back: forgetting ends it
        self._ended = False

    def events(self) -> Iterator[Event]:
        try:
            while not self._ended:
                event = self._events.get()
                if event is None:
                    break
                self._ended = event.kind == "end"
                if event.error:
                    raise event.error
                yield event
        finally:
            self.close()

    def __iter__(self) -> Iterator[str]:
        """The pieces of text of the first choice."""
        return (e.text for e in self.events() if e.kind == "text" and e.choice == 0)

    def cancel(self) -> None:
        """It ends soon; the iteration goes on to its end."""
        self._generation.cancel()

    def close(self) -> None:
        self._ended = True
        self._generation.close()
        self._events.put(None)  # for who waits in events()

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


class Model:
    """A loaded model. close() it, or use it in a with statement. Any thread may use it, many at once."""

    def __init__(self, path: Path, *, backend: Optional[str] = None, cpu_kernels: Optional[str] = None,
                 mlx_device: Optional[str] = None, mlx_type: Optional[str] = None, kv_type: Optional[str] = None,
                 kv_memory: int = 0, threads: int = 0, max_context: int = 0, max_sequences: int = 0,
                 max_batch_tokens: int = 0, prefix_cache: bool = True, chat_template: Optional[str] = None,
                 tool_format: Optional[str] = None, reasoning_format: Optional[str] = None,
                 speculation: Optional[str] = None, draft_model: Optional[Path] = None,
                 progress: Optional[Callable[[float], None]] = None):
        s = _Struct("tandem_model_options", lib().tandem_model_options_init)
        texts: Dict[str, Optional[str]] = {
            "backend": backend, "cpu_kernels": cpu_kernels, "mlx_device": mlx_device, "mlx_type": mlx_type,
            "kv_type": kv_type, "chat_template": chat_template, "tool_format": tool_format,
            "reasoning_format": reasoning_format, "speculation": speculation}
        numbers = {"kv_memory": kv_memory, "threads": threads, "max_context": max_context, "max_sequences": max_sequences,
                   "max_batch_tokens": max_batch_tokens, "prefix_cache": prefix_cache}
        for name, value in texts.items():
            if value is not None:
                s.set_text(name, value)
        for name, number in numbers.items():
            s.set(name, number)
        if draft_model is not None:
            s.set_bytes("draft_model", _without_nul(os.fsencode(draft_model), "draft_model"))
        if progress:
            show = progress
            s.keep.append(ffi.callback("void(void *, float)", lambda _, fraction: show(fraction)))
            s.set("progress", s.keep[-1])
        error = ffi.new("struct tandem_error *")
        handle = lib().tandem_model_load(_without_nul(os.fsencode(path), "path"), s.pointer, error)
        if handle == ffi.NULL:
            raise error_of(error)
        self._handle = _ModelHandle(handle)
        self._finalizer = weakref.finalize(self, self._handle.free)  # also when the program ends

    def close(self) -> None:
        """Ends what still runs as cancelled, and frees the model. In a callback it does not wait for that."""
        self._finalizer()

    def __enter__(self) -> "Model":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    @property
    def info(self) -> ModelInfo:
        info = ffi.new("struct tandem_model_info *")
        info.size = ffi.sizeof("struct tandem_model_info")
        values: Dict[str, Any] = {}
        with self._handle as pointer:  # its texts live as long as the model
            lib().tandem_model_get_info(pointer, info)
            for field in dataclasses.fields(ModelInfo):
                value = getattr(info, field.name)
                values[field.name] = text(value) if isinstance(value, ffi.CData) else value
        return ModelInfo(**values)

    # ---- adapters ----

    def load_adapter(self, name: str, path: Path) -> None:
        """A PEFT folder or a GGUF file; requests have it by adapter=name. Waits until they can."""
        error = ffi.new("struct tandem_error *")
        raw = _without_nul(os.fsencode(path), "path")
        with self._handle as pointer:
            if not lib().tandem_model_load_adapter(pointer, _bytes(name, "name"), raw, error):
                raise error_of(error)

    def unload_adapter(self, name: str) -> None:
        """No request finds it any more; what runs with it keeps it. Does not wait."""
        error = ffi.new("struct tandem_error *")
        with self._handle as pointer:
            if not lib().tandem_model_unload_adapter(pointer, _bytes(name, "name"), error):
                raise error_of(error)

    @property
    def adapters(self) -> List[AdapterInfo]:
        """Those that requests find."""
        info, found = ffi.new("struct tandem_adapter_info *"), []
        info.size = ffi.sizeof("struct tandem_adapter_info")
        with self._handle as pointer:
            while lib().tandem_model_get_adapter(pointer, len(found), info):
                found.append(AdapterInfo(text(info.name) or "", text(info.fingerprint) or "", info.rank, info.n_weights,
                                         info.n_running, info.alpha, info.memory_size))
        return found

    # ---- text and tokens ----

    def tokenize(self, text: str, *, add_special: bool = False, parse_special: bool = False) -> List[int]:
        raw = text.encode("utf-8", errors="replace")
        flags = (1 if add_special else 0) | (2 if parse_special else 0)
        n, error = ffi.new("size_t *"), ffi.new("struct tandem_error *")
        with self._handle as pointer:
            ids = lib().tandem_tokenize(pointer, raw, len(raw), flags, n, error)
        if ids == ffi.NULL:
            raise error_of(error)
        try:
            return list(ffi.unpack(ids, n[0])) if n[0] else []
        finally:
            lib().tandem_free(ids)

    def detokenize(self, ids: Iterable[int], *, skip_special: bool = False) -> str:
        array = ffi.new("int32_t[]", list(ids))
        size, error = ffi.new("size_t *"), ffi.new("struct tandem_error *")
        with self._handle as pointer:
            raw = lib().tandem_detokenize(pointer, array, len(array), 4 if skip_special else 0, size, error)
        return _take_text(raw, size, error)

    def render_chat(self, messages: Sequence[Message], **options: "Unpack[Options]") -> str:
        """The prompt that a chat becomes."""
        request = _request(messages, options)
        size, error = ffi.new("size_t *"), ffi.new("struct tandem_error *")
        with self._handle as pointer:
            raw = lib().tandem_render_chat(pointer, request.pointer, size, error)
        return _take_text(raw, size, error)

    # ---- generations ----

    def start(self, prompt: Prompt, on_event: Callable[[Event], Optional[bool]], **options: "Unpack[Options]") -> Generation:
        """Starts a request and does not wait. on_event is called on a thread of the model; False from it cancels."""
        return Generation(self, prompt, on_event, options)

    def stream(self, prompt: Prompt, **options: "Unpack[Options]") -> Stream:
        """Starts a request; iterate over its pieces of text, or over events()."""
        return Stream(self, prompt, options)

    def generate(self, prompt: Prompt, **options: "Unpack[Options]") -> Answer:
        """Runs a request to its end."""
        with self.stream(prompt, **options) as stream:  # a wait in C would be deaf to Ctrl-C
            return _gather(stream.events(), options.get("n_choices") or 1)


def _take_text(raw: Any, size: Any, error: Any) -> str:
    if raw == ffi.NULL:
        raise error_of(error)
    try:
        return text(raw, size[0]) or ""
    finally:
        lib().tandem_free(raw)


def _gather(events: Iterable[Event], n_choices: int) -> Answer:
    choices = [Answer() for _ in range(n_choices)]
    pieces: List[Dict[str, List[str]]] = [{"text": [], "reasoning": [], "arguments": []} for _ in choices]
    for e in events:
        answer, kept = choices[e.choice], pieces[e.choice]
        if e.kind in kept:
            kept[e.kind].append(e.text)
        elif e.kind == "call_end":
            answer.calls.append(Call(e.call_id or "", e.call_name or "", "".join(kept["arguments"]), e.call_fault))
            kept["arguments"].clear()
        elif e.kind == "finish":
            answer.finish, answer.text, answer.reasoning = e.finish, "".join(kept["text"]), "".join(kept["reasoning"])
        elif e.kind == "end":
            for a in choices:
                a.usage = e.usage
    choices[0].choices = choices
    return choices[0]


# ---- log ----

LEVELS = ("error", "warn", "info", "debug")
_kept: List[Any] = []  # a thread may still be in one that no longer is the log


def set_log(level: str = "info", log: Optional[Callable[[str, str], None]] = None) -> None:
    """Lines of the library up to this level go to log(level, line), on any thread; None: to nobody, as at first. Not while
    a model is loaded."""
    if log is None:
        lib().tandem_set_log(0, ffi.NULL, ffi.NULL)
        return
    listener = log

    def pass_on(_: Any, number: int, line: Any, size: int) -> None:
        listener(LEVELS[number], text(line, size) or "")

    callback = ffi.callback("void(void *, int, const char *, size_t)", pass_on)
    _kept.append(callback)
    lib().tandem_set_log(LEVELS.index(level), callback, ffi.NULL)
