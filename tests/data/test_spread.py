"""Numbers and ids of many rows: percentiles and outliers by hand, packed ids, fair samples."""

from collections import Counter

from turnsmith.data.spread import Names, Sample, Spread


def spread(*values):
    found = Spread()
    for value in values:
        found.add(value)
    return found


def test_percentiles_are_values_that_are_there():
    # Of four values, half are at most 2; 0.9 * 4 = 3.6, so that 90 % are at most the fourth.
    assert spread(8, 1, 4, 2).summary() == {"least": 1, "median": 2, "p90": 8, "p99": 8, "most": 8}


def test_over_a_limit_means_more_than_it():
    assert spread(1023, 1024, 1025, 5000).over((1024, 4096)) == {1024: 2, 4096: 1}


def test_far_values_are_beyond_three_quartile_ranges_of_the_logs():
    # Half the values are 1000, half 4000: the quartiles are these, the fences 1000 / 4**3 and 4000 * 4**3.
    middle = [1000, 4000] * 60
    assert spread(*middle, 256_001, 255_999, 15, 16).far() == ([122], [120])


def test_far_values_are_ten_times_off_where_the_others_hardly_differ():
    assert spread(*[100] * 120, 1001, 999, 9, 11).far() == ([122], [120])


def test_among_few_values_none_is_far():
    assert spread(*[10] * 98, 1_000_000).far() == ([], [])


def test_ids_come_back_as_they_were():
    names = Names()
    ids = ["a", "", "ä\n", "x-17", "\ud800"]
    for id in ids:
        names.add(id)
    assert [names[place] for place in range(len(names))] == ids


def test_a_sample_of_few_is_all_of_them_in_order():
    sample = Sample(5)
    for one in "abc":
        sample.add(one)
    assert (sample.taken(), sample.seen) == (["a", "b", "c"], 3)


def test_everything_has_the_same_chance_to_be_in_a_sample():
    drawn = Counter()
    for seed in range(1000):
        sample = Sample(3, seed=seed)
        for one in range(10):
            sample.add(one)
        assert sample.taken() == sorted(set(sample.taken()))
        drawn.update(sample.taken())
    # Each is drawn with probability 0.3: 300 times; five standard deviations of 14.5 are allowed.
    assert all(abs(drawn[one] - 300) < 73 for one in range(10))


def test_a_sample_of_none_keeps_nothing():
    sample = Sample(0)
    sample.add("a")
    assert sample.taken() == []
