"""Wire formats, one module each, all behind `dialect.Dialect`."""
