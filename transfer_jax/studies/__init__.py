"""A module a paper, from a config to the networks that it wants and from results to its page.

Each has TITLE; CLAIMS, the paper's as tests of our own numbers; `entries(config, open_dataset)`,
the cells that a config asks for with the tags that become columns of the results (experiment,
split, seed, condition: 'long' for bases trained twice as long); `sections(results)`, its part of
the page; and, where results need more than accuracies, `measure(config, open_dataset, entries,
store)`.
"""
