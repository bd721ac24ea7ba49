"""What only the full size needs: downloads, pictures kept on the device, cached features, several processes."""
