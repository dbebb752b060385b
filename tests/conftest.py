"""Settings of the whole run; imported before anything that reads them."""

import os

# The models of the tests are so small that a second thread only costs, on a busy machine ten times
# what it brings.
for library in ('OMP', 'NUMBA'):
    os.environ.setdefault(f'{library}_NUM_THREADS', '1')
