"""What is learned from: data modules whose rows are read in an order that a seed fixes, one gather per batch.

    images planar sequences text own   the data sets that conf/data names; what of them is a file on the disk:
    pictures   pictures in class folders     store   arrays in a file, in memory or page by page
    memory     the data module that they share: three parts, standardised, and a loader for each
    batches    orders of rows, and loaders that can go on from any batch      augment   changes of training pictures

Built by train.py from conf/, asked for batches by Lightning. Imports config and tasks, and nothing that learns.
"""
