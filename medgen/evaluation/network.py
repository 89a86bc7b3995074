"""Users' extractors: a TorchScript or torch.export file, or "package.module:callable", with the input it expects.

    inception.pt?channels=3&range=-1,1&size=299,299
    radimagenet.pt2?channels=3&range=0,1
    my_package.nets:embed?range=0,255

`channels`: an image with one channel is repeated; `range`: what the network's input spans; `size`: its spatial size.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import torch
from torch import Tensor

from medgen.errors import ConfigError, DataError
from medgen.evaluation.features import IDENTITY, RANDOM_CONV, Extractor, Identity, RandomConv, Range, resized
from medgen.registry import resolve, suggestion

__all__ = ["Network", "load_extractor"]

_FILES = (".pt", ".pt2", ".pth", ".ts", ".torchscript")
_OPTIONS = ("channels", "range", "size")


class Network:
    """A callable as an `Extractor`: it sees its own range, channels and size; what it returns is flattened to [B, F].

    Args:
        name: unique for the numbers it gives.
        function: [B, C', *S'] -> [B, ...].
        example: images [N, C, *S] as it will get them; zeros of this size find F, on this device.
        options: "channels", "range", "size", as text; the callable's own attributes of these names are the defaults.
        recipe: more of it, e.g. the file's hash.

    Raises:
        ConfigError: an unknown option or one that cannot be read.
        DataError: the callable refuses the images, or returns something else than a tensor.

    >>> net = Network("mean", lambda x: x.mean(-1), torch.zeros(1, 1, 4), {"channels": "3", "range": "0,255"})
    >>> net(torch.ones(1, 1, 4), (0.0, 1.0)).tolist()
    [[255.0, 255.0, 255.0]]
    """

    def __init__(
        self,
        name: str,
        function: Callable[[Tensor], Any],
        example: Tensor,
        options: Mapping[str, str],
        recipe: Mapping[str, Any] | None = None,
    ) -> None:
        for key in options:
            if key not in _OPTIONS:
                raise ConfigError(f"an extractor has no option {key!r}{suggestion(key, _OPTIONS)}")
        self.name, self.function = name, function
        channels = _numbers(options, "channels", function)
        span = _numbers(options, "range", function)
        if span is not None and len(span) != 2:
            raise ConfigError(f"option 'range' of extractor {name!r} must be two numbers 'low,high'; got {span}.")
        self.channels = int(channels[0]) if channels else None
        self.range = (span[0], span[1]) if span else None
        target = _numbers(options, "size", function)
        self.size = tuple(int(v) for v in target) if target else None
        self.dim = 0
        self.dim = self(torch.zeros_like(example[:1]).repeat_interleave(2, 0), (0.0, 1.0)).shape[1]
        self.recipe: Mapping[str, Any] = {
            "input range": list(self.range) if self.range else "as the data",
            "input channels": self.channels or "as the data",
            "input size": list(self.size) if self.size else "as the data",
            **(recipe or {}),
        }

    def __call__(self, x: Tensor, value_range: Range) -> Tensor:
        """Features [B, F] of x [B, C, *S]."""
        x = x.float()
        if self.range is not None:
            (a, b), (low, high) = value_range, self.range
            x = low + (x - a) * ((high - low) / (b - a))
        if self.channels is not None and x.shape[1] != self.channels:
            if x.shape[1] != 1:
                raise DataError(f"extractor {self.name!r} takes {self.channels} channels; got {x.shape[1]}.")
            x = x.expand(-1, self.channels, *x.shape[2:])
        if self.size is not None:
            x = resized(x, self.size)
        try:
            with torch.no_grad():
                features = self.function(x)
        except Exception as error:  # whatever a user's network raises
            text = str(error).strip().splitlines()[-1:] or [type(error).__name__]
            raise DataError(f"extractor {self.name!r} failed on input of shape {tuple(x.shape)}: {text[0]}") from error
        if not isinstance(features, Tensor) or features.dim() < 2 or len(features) != len(x):
            got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise DataError(f"extractor {self.name!r} must return a tensor [{len(x)}, ...]; got {got}.")
        return features.flatten(1)


def _numbers(options: Mapping[str, str], key: str, function: Any) -> tuple[float, ...] | None:
    if key not in options:
        own = getattr(function, key, None)
        if own is None or callable(own):
            return None
        return tuple(float(v) for v in (own if isinstance(own, tuple | list) else (own,)))
    try:
        return tuple(float(part) for part in options[key].split(","))
    except ValueError:
        raise ConfigError(f"option {key!r} of an extractor must be numbers separated by commas; got {options[key]!r}.") from None


def load_extractor(text: str, real: Tensor) -> Extractor:
    """The extractor that `text` names, for the images `real` [N, C, *S].

    Args:
        text: "medgen-random-conv-v1" (vectors get "medgen-identity-v1" under this name too), "medgen-identity-v1", or a file or
            callable with options, as in the head of this module.
        real: the real set: its size fits the extractor, its statistics standardise the identity.

    Raises:
        ConfigError: no such extractor, file or option.
        DataError: the extractor does not take such images.
        PluginError: the callable cannot be imported.

    >>> load_extractor("medgen-random-conv-v1", torch.zeros(2, 1, 8, 8)).dim
    128
    """
    place, _, query = text.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if place in (RANDOM_CONV, IDENTITY):
        if options:
            raise ConfigError(f"extractor {place!r} takes no options; got {query!r}.")
        return Identity(real) if place == IDENTITY or real.dim() == 2 else RandomConv(real.shape[1], real.dim() - 2)
    if place.endswith(_FILES):
        return _from_file(Path(place), real, options)
    if re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", place):
        found = resolve(place, owner="the extractor")
        made = found() if isinstance(found, type) else found
        return made if isinstance(made, Extractor) and not options else Network(place, made, real, options)
    raise ConfigError(
        f"`extractor` must be {RANDOM_CONV!r}, {IDENTITY!r}, a file ({', '.join(_FILES)}) or 'package.module:callable'; got {text!r}."
    )


def _from_file(path: Path, real: Tensor, options: Mapping[str, str]) -> Network:
    if not path.is_file():
        raise ConfigError(f"extractor file {str(path)!r} does not exist.")
    try:
        function = _loaded(path, real.device)
    except Exception as error:  # torch raises many types here
        raise ConfigError(
            f"extractor file {path.name!r} must be TorchScript (torch.jit.save) or an exported program (torch.export.save, .pt2); "
            "a bare state dict has no network in it. Export the network with torch.export."
        ) from error
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Network(path.name, function, real, options, {"sha256": digest[:16]})


def _loaded(path: Path, device: torch.device) -> Callable[[Tensor], Any]:
    if path.suffix == ".pt2":
        module: Callable[[Tensor], Any] = torch.export.load(path).module().to(device)
        return module
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript is what most published extractors come in
        script: torch.jit.ScriptModule = torch.jit.load(str(path), map_location=device)
    return script.eval()
