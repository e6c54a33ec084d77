//! The actors: thin shells over pure cores, and their supervisor.
