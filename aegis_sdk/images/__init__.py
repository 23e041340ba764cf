"""What fills a guest's disks: image sources, file trees, and the EROFS files made of them."""
