"""The hierarchy of WordNet, which the classes of ImageNet are taken from, read through nltk."""

import re
from collections.abc import Iterable
from typing import Any

from transfer_jax.data.hierarchy import Hierarchy


def hierarchy_from_wordnet(wnids: Iterable[str], corpus: Any = None) -> Hierarchy:
    """The part of WordNet that lies above some of its nouns.

    Of several hypernyms the first by name counts, which makes a tree of what is none; Huh et al.
    2016 took the first too. Nodes are called by their wnids.

    Args:
      wnids: 'n' and the eight digits of the synset's offset in WordNet 3.0, as ImageNet has them.
      corpus: the WordNet reader of nltk; None takes `nltk.corpus.wordnet`, which has to be
        installed once with `python -m nltk.downloader wordnet`.

    Returns:
      The hierarchy, whose root is `n00001740` (entity).

    Raises:
      ModuleNotFoundError: nltk is not installed.
      LookupError: its corpus is not.
      ValueError: a wnid is malformed, or WordNet has no such noun.
    """
    corpus = _installed_wordnet() if corpus is None else corpus
    parents: dict[str, str] = {}
    for wnid in wnids:
        if not re.fullmatch(r"n\d{8}", wnid):
            raise ValueError(f"{wnid!r} is no wnid: expected 'n' and eight digits")
        synset = corpus.synset_from_pos_and_offset("n", int(wnid[1:]))
        if synset is None:
            raise ValueError(f"WordNet has no noun {wnid}: is the corpus WordNet 3.0?")
        while wnid not in parents:
            above = synset.hypernyms() or synset.instance_hypernyms()
            if not above:
                break
            # nltk keeps hypernyms in a set, whose order changes from one process to the next.
            synset, child = min(above, key=lambda hypernym: hypernym.name()), wnid
            wnid = parents[child] = f"n{synset.offset():08d}"
    return Hierarchy(tuple(parents.items()))


def _installed_wordnet() -> Any:
    try:
        from nltk.corpus import wordnet
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the hierarchy of WordNet is read through nltk, which is not installed: "
            "pip install nltk, then python -m nltk.downloader wordnet"
        ) from error
    try:
        wordnet.ensure_loaded()
    except LookupError:
        raise LookupError(
            "nltk is installed, but its corpus of WordNet is not: run "
            "python -m nltk.downloader wordnet, or unpack it as corpora/wordnet in a folder that "
            "the environment variable NLTK_DATA names"
        ) from None
    return wordnet
