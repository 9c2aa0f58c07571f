"""CelebA's name on the Hub, and its columns that are not labels."""

#: Id of CelebA on the Hub, and the configuration of it that has the attributes.
CELEBA_HUB, CELEBA_HUB_CONFIG = "flwrlabs/celeba", "img_align+identity+attr"
#: Columns beside image and attributes: the person, and the number of the image in CelebA, which
#: some copies have.
CELEBA_IGNORE = ("celeb_id", "image_id")
