"""What a node keeps on its disk: the journal of protocol records, the blobs, the folder of both."""
