from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only
from transformers import GenerationMixin, PreTrainedModel
from transformers.utils.generic import ModelOutput

from minrnn.errors import UserError
from minrnn.models import LanguageModel
from minrnn.models._stack import StackState

from ._config import MinRNNConfig
from ._folders import is_run


@dataclass
class MinRNNOutput(ModelOutput):
    """What `MinRNNForCausalLM` gives.

    Attributes:
        loss: mean surprise at the labels, in nats, (); None without labels.
        logits: (B, T, V), or of as many last steps as `logits_to_keep` says.
        state: all that is kept of the tokens so far, B first in every tensor; None without `use_cache`.
        hidden_states: what each block read, and what the head reads: L + 1 of (B, T, D); None unless asked for.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    state: StackState | None = None
    hidden_states: tuple[Tensor, ...] | None = None


class MinRNNForCausalLM(PreTrainedModel, GenerationMixin):  # type: ignore[no-untyped-call]
    """`minrnn.models.LanguageModel`, called as transformers calls a causal language model.

    Its cache is the recurrent state, under the name `state`: a tree of tensors whose size does not depend on how many
    tokens were read, but for attention without a window. `generate` reads each token once.

    Padding may stand on either side of a text, and changes nothing: a text begins where padding ends. It is where the
    attention mask is 0, and where a token is V, which no text has. `generate` goes on from the last token of each row,
    so it takes padding on the left only.

    Args:
        config: of the model, whose weights are fresh.

    Raises:
        ValueError: the config describes no model.

    Example:
        >>> model = MinRNNForCausalLM(MinRNNConfig(vocab_size=65, width=64, pattern="mingru*2"))
        >>> model.generate(torch.tensor([[1, 2, 3]]), max_new_tokens=4).shape
        torch.Size([1, 7])
    """

    config_class = MinRNNConfig
    config: MinRNNConfig
    model: LanguageModel
    _is_stateful = True  # a state cannot go back, which assisted generation would need

    def __init__(self, config: MinRNNConfig) -> None:
        super().__init__(config)
        self.model = LanguageModel(config.architecture())
        self.generation_config.pad_token_id = config.vocab_size  # what rows that have ended go on with
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        state: StackState | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **loss_options: Any,
    ) -> MinRNNOutput | tuple[Any, ...]:
        """Predict the next token at every step.

        Args:
            input_ids: tokens (B, T), int64, 0 <= token < V; V itself is padding.
            attention_mask: (B, T), 0 for padding. After padding a new text begins, also where a state was given.
            state: of the tokens before, from an earlier call; None at the start.
            labels: (B, T) int64, mostly `input_ids` itself: step t predicts that of step t + 1. What is -100, padding,
                or the first token of a text is not predicted.
            use_cache: whether to give the state back; by default in evaluation mode.
            logits_to_keep: of how many last steps, or of which, to compute logits; 0 for all.
            output_hidden_states: whether to give `hidden_states` back; by default what the config says.
            return_dict: False for a plain tuple without what is None; by default what the config says.
            loss_options: `num_items_in_batch` and such, as `Trainer` gives them to transformers' loss.

        Raises:
            ValueError, TypeError: tokens, mask or state do not fit.
        """
        tokens, real, begins = self._texts(input_ids, attention_mask)
        wants_hidden = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        with _recorded(self.model.stack.blocks if wants_hidden else ()) as read:
            y, state = self.model.features(tokens, state, begins)  # (B, T, D)
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.model.head(y[:, kept])
        loss = None
        if labels is not None:
            if real is not None and begins is not None:
                labels = labels.masked_fill(~real | begins, -100)
            loss = self.loss_function(logits, labels, self.config.vocab_size, **loss_options)
        output = MinRNNOutput(
            loss=loss,
            logits=logits,
            state=state if use_cache or (use_cache is None and not self.training) else None,
            hidden_states=(*read, y) if wants_hidden else None,
        )
        as_dict = self.config.return_dict if return_dict is None else return_dict
        return output if as_dict else output.to_tuple()

    def _texts(self, tokens: Tensor, attention_mask: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The tokens with 0 for padding; which of them are real, and where a text begins, both (B, T) bool, or None
        where there is no padding.
        """
        real = tokens != self.config.vocab_size
        if attention_mask is not None:
            if attention_mask.shape != tokens.shape:
                raise ValueError(
                    f"attention_mask has shape {tuple(attention_mask.shape)}; expected that of input_ids, (B, T) = "
                    f"{tuple(tokens.shape)}"
                )
            real = real & attention_mask.bool()
        if real.all():
            return tokens, None, None
        begins = real & ~F.pad(real, (1, 0), value=True)[:, :-1]
        return tokens.masked_fill(~real, 0), real, begins

    # What `generate` asks for.

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        state: StackState | None = None,
        is_first_iteration: bool | None = False,
        **given: Any,
    ) -> dict[str, Any]:
        """What `forward` gets at a step: the prompt, and then the newest token alone. Raises UserError for padding on
        the right of a prompt, and for padding after a state.
        """
        if is_first_iteration and attention_mask is not None:
            _check_padding(attention_mask, after_state=state is not None)
        elif state is not None:
            attention_mask = None  # it is of all tokens; those that the state knows are not read again
        inputs: dict[str, Any] = super().prepare_inputs_for_generation(
            input_ids, attention_mask=attention_mask, state=state, is_first_iteration=is_first_iteration, **given
        )
        return inputs

    def _update_model_kwargs_for_generation(
        self, outputs: ModelOutput, model_kwargs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> dict[str, Any]:
        """What the next step gets."""
        if "state" in outputs:
            model_kwargs["state"] = outputs["state"]
        return super()._update_model_kwargs_for_generation(outputs, model_kwargs, *args, **kwargs)

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        """False: keys and values of the past are not what is kept."""
        return False

    def _reorder_cache(self, state: StackState, beam_idx: Tensor) -> StackState:
        """The states of the beams that go on."""
        rows: StackState = tree_map_only(Tensor, lambda one: one.index_select(0, beam_idx.to(one.device)), state)
        return rows

    # What loading, saving and resizing ask for.

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """As `PreTrainedModel.from_pretrained`. Raises UserError for a run folder, and for weights that are not those
        of the model in `config.json`, which transformers would fill up with random numbers.
        """
        if is_run(pretrained_model_name_or_path):
            raise UserError(
                f"{pretrained_model_name_or_path} is a run folder; load it with minrnn.hf.from_run, or give a folder "
                "that save_pretrained wrote"
            )
        wants_info = kwargs.pop("output_loading_info", False)
        loaded: Any = super().from_pretrained(pretrained_model_name_or_path, *args, output_loading_info=True, **kwargs)
        model, info = loaded
        for found, names in (("lacks", info["missing_keys"]), ("also has", info["unexpected_keys"])):
            if names:
                raise UserError(
                    f"the weights of {pretrained_model_name_or_path} do not fit its config.json: the file {found} "
                    f"{min(names)!r}; put the original files back"
                )
        return (model, info) if wants_info else model

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Any:
        """As `PreTrainedModel.save_pretrained`. Raises UserError for a run folder, whose files have the same names."""
        if is_run(save_directory):
            raise UserError(
                f"{save_directory} is a run folder, which this would destroy; give another folder, or write a run with "
                "minrnn.hf.to_run"
            )
        return super().save_pretrained(save_directory, *args, **kwargs)

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing: `LanguageModel` initialises itself."""

    def get_input_embeddings(self) -> nn.Embedding:
        return self.model.embedding

    def set_input_embeddings(self, value: Any) -> None:
        self.model.embedding = value
        self.model.config = dataclasses.replace(self.model.config, vocabulary_size=value.num_embeddings)

    def get_output_embeddings(self) -> nn.Linear:
        return self.model.head

    def set_output_embeddings(self, new_embeddings: Any) -> None:
        self.model.head.weight = new_embeddings.weight  # in the layer that is fast at single steps
        self.model.head.out_features = new_embeddings.out_features


def _check_padding(attention_mask: Tensor, after_state: bool) -> None:
    right = (attention_mask[:, -1] == 0).nonzero()
    if len(right):
        raise UserError(
            f"attention_mask ends with padding in row {int(right[0])}, from which no text can go on; pad on the left "
            "(tokenizer.padding_side = 'left')"
        )
    if after_state and not attention_mask.all():
        raise UserError(
            "attention_mask has padding, after which a new text begins, and a state to go on from is given; give texts "
            "of one length with a state, or one row at a time"
        )


@contextmanager
def _recorded(blocks: Any) -> Iterator[list[Tensor]]:
    """What each of the blocks is given, (B, T, D), while this is open."""
    read: list[Tensor] = []
    hooks = [block.register_forward_pre_hook(lambda block, inputs: read.append(inputs[0])) for block in blocks]
    try:
        yield read
    finally:
        for hook in hooks:
            hook.remove()
