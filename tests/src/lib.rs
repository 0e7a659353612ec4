//! Stories of the product, run against real sockets and real databases.
