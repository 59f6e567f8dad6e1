"""Language models as Hugging Face transformers has them (the extra `hf`).

from minrnn.hf import from_run

model, tokenizer = from_run("runs/shakespeare")
prompt = tokenizer("\\nROMEO:", return_tensors="pt")
print(tokenizer.decode(model.generate(**prompt, max_new_tokens=200, do_sample=True)[0]))

Importing this teaches `AutoConfig`, `AutoModelForCausalLM` and `pipeline("text-generation")` the model.
"""

try:
    import transformers as _transformers
    from transformers.utils.versions import require_version as _require_version

    _require_version("transformers>=5.24")  # the first versions of 5 do not reorder the state in beam search
except ImportError as error:
    raise ImportError("minrnn.hf needs transformers 5.24 or newer: pip install --upgrade 'minrnn[hf]'") from error

from ._card import write_card
from ._config import MinRNNConfig
from ._model import MinRNNForCausalLM, MinRNNOutput
from ._runs import from_run, to_run
from ._tokenizers import from_transformers, to_transformers

_transformers.AutoConfig.register(MinRNNConfig.model_type, MinRNNConfig)
_transformers.AutoModelForCausalLM.register(MinRNNConfig, MinRNNForCausalLM)

__all__ = [
    "MinRNNConfig",
    "MinRNNForCausalLM",
    "MinRNNOutput",
    "from_run",
    "from_transformers",
    "to_run",
    "to_transformers",
    "write_card",
]
