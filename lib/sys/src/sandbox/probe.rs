//! What a captured process might try, each act harmless if it succeeds. For the must-fail tests of every daemon.
