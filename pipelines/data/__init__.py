"""A folder of images and masks, checked, split and described; and the data sets that are made or fetched."""
