"""Measures catga_sync beside its peers, in one run: ``make bench``, or ``python -m benchmarks.bench [PART ...]``.

Each part has a file (``remote``, ``batch``, ``codec``, ``local``, ``growth``, ``idle``), each peer of ``remote`` a file
in ``peers/``. ``measure`` takes turns and makes ratios, ``targets`` has what is promised, ``report`` judges it.
"""
