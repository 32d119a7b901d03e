"""The decisions of heat-aware stealing, as functions of plain numbers: `docs/heat-stealing.md` is their contract."""
