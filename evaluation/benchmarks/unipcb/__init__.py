"""UniPCB (arXiv 2601.19222): inspection of circuit boards, the paper's Table IV."""
