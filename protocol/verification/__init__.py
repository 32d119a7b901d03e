"""Whether results are right: policies, copies, comparison, trust, proofs of fraud. All of it pure."""
