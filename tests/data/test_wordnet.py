import sys
import types

import pytest

from transfer_jax.data.wordnet import hierarchy_from_wordnet

# name: number of its wnid, hypernyms by name
NOUNS = {
    "entity": (1740, ()),
    "animal": (15388, ("entity",)),
    "canine": (2083346, ("animal",)),
    "pet": (1318894, ("animal",)),
    "dog": (2084071, ("pet", "canine")),
    "poodle": (2113335, ("dog",)),
    "cat": (2121620, ("animal",)),
}


class Synset:
    """The part of nltk's synsets that its documentation names for hypernyms."""

    def __init__(self, name):
        self.noun, (self.number, self.above) = name, NOUNS[name]

    def name(self):
        return f"{self.noun}.n.01"

    def offset(self):
        return self.number

    def hypernyms(self):
        return [Synset(name) for name in self.above]

    def instance_hypernyms(self):
        return []


class Corpus:
    def __init__(self):
        self.by_offset = {number: name for name, (number, _) in NOUNS.items()}

    def ensure_loaded(self):
        pass

    def synset_from_pos_and_offset(self, pos, offset):
        assert pos == "n"
        return Synset(self.by_offset[offset]) if offset in self.by_offset else None


class Missing:
    def ensure_loaded(self):
        raise LookupError("Resource wordnet not found.")


def install(monkeypatch, corpus):
    module = types.ModuleType("nltk.corpus")
    module.wordnet = corpus
    monkeypatch.setitem(sys.modules, "nltk", types.ModuleType("nltk"))
    monkeypatch.setitem(sys.modules, "nltk.corpus", module)


def test_the_tree_above_some_nouns(monkeypatch):
    install(monkeypatch, Corpus())
    tree = hierarchy_from_wordnet(["n02113335", "n02121620", "n02084071"])
    # The first hypernym by name counts: a poodle is a dog is a canine, and never a pet.
    assert tree.path("n02113335") == (
        "n00001740",
        "n00015388",
        "n02083346",
        "n02084071",
        "n02113335",
    )
    assert tree.leaves == ("n02113335", "n02121620")
    assert "n01318894" not in tree


def test_bad_wnids():
    for wnid in ("poodle", "n123", "v02113335", "n02113335 "):
        with pytest.raises(ValueError, match=f"'{wnid}' is no wnid: expected 'n' and eight digits"):
            hierarchy_from_wordnet([wnid], Corpus())
    with pytest.raises(ValueError, match=r"WordNet has no noun n00000007: is the corpus .* 3\.0"):
        hierarchy_from_wordnet(["n02113335", "n00000007"], Corpus())


def test_how_to_get_nltk_and_the_corpus(monkeypatch):
    monkeypatch.setitem(sys.modules, "nltk", None)
    monkeypatch.setitem(sys.modules, "nltk.corpus", None)
    with pytest.raises(ModuleNotFoundError, match="not installed: pip install nltk, then python"):
        hierarchy_from_wordnet(["n02113335"])
    install(monkeypatch, Missing())
    with pytest.raises(LookupError, match=r"corpus of WordNet is not: run python -m nltk\.downl"):
        hierarchy_from_wordnet(["n02113335"])


def write_database(folder):
    """WordNet's own file format: a noun's number is where its line starts."""
    lines, numbers, end = {}, {}, 0
    for name, (_, above) in NOUNS.items():
        pointers = "".join(f"@ {numbers[other]:08d} n 0000 " for other in above)
        numbers[name] = end
        lines[name] = f"{end:08d} 03 n 01 {name} 0 {len(above):03d} {pointers}| a gloss  \n"
        end += len(lines[name])
    for part in ("adj", "adv", "noun", "verb"):
        for file in (f"index.{part}", f"data.{part}", f"{part}.exc"):
            (folder / file).write_text("")
    (folder / "data.noun").write_text("".join(lines.values()))
    (folder / "index.noun").write_text(
        "".join(f"{name} n 1 0 1 0 {number:08d}  \n" for name, number in numbers.items())
    )
    (folder / "lexnames").write_text("".join(f"{i:02d}\tname{i}\t1\n" for i in range(4)))
    (folder / "LICENSE").write_text("WordNet 3.0 Copyright")
    return {name: f"n{number:08d}" for name, number in numbers.items()}


def test_nltks_own_reader(tmp_path, monkeypatch):
    nltk = pytest.importorskip("nltk")
    from nltk.corpus.reader.wordnet import WordNetCorpusReader

    wnids = write_database(tmp_path)
    # nltk reads nothing outside its data folders, and maps other versions of WordNet onto 3.0.
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    monkeypatch.setattr(WordNetCorpusReader, "map_wn", lambda self, version="wordnet": None)
    with pytest.warns(UserWarning, match="multilingual"):
        corpus = WordNetCorpusReader(nltk.data.FileSystemPathPointer(str(tmp_path)), None)
    tree = hierarchy_from_wordnet([wnids["poodle"], wnids["cat"]], corpus)
    wanted = ("entity", "animal", "canine", "dog", "poodle")
    assert tree.path(wnids["poodle"]) == tuple(wnids[name] for name in wanted)
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="has no noun n00000007"):
        hierarchy_from_wordnet(["n00000007"], corpus)


def test_nltk_without_the_corpus(monkeypatch):
    nltk = pytest.importorskip("nltk")
    monkeypatch.setattr(nltk.data, "path", [])
    with pytest.raises(LookupError, match="its corpus of WordNet is not: run"):
        hierarchy_from_wordnet(["n02113335"])
