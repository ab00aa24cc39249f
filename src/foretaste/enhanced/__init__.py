"""The parts of EnhancedBERT4Rec: its network, and what the fitted model can be asked."""
