"""One file a question: is it faster than ...? Each measures ours and the peer in one run."""
