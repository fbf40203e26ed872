"""What the general sources' records ask. The text of an answer comes from the source, the question is drawn here."""

#: Two images: before and after.
ASK_DIFFERENCE = (
    "What has changed between the first and the second image?",
    "Compare the two images and describe the difference.",
    "Describe what is different in the second image.",
    "What is the difference between these two images?",
    "Look at both images. What changed?",
    "How does the second image differ from the first?",
)
#: Two images of one place by a surveillance camera; several things may have changed.
ASK_DIFFERENCES = (
    "What are the differences between the two images?",
    "Compare the two images and list what has changed.",
    "Describe all differences between the first and the second image.",
    "Both images show the same place at different times. What changed?",
    "How does the second image differ from the first?",
)
ASK_EDIT = (
    "Which instruction turns the first image into the second?",
    "The second image was edited from the first. What was the instruction?",
    "Write the editing instruction that leads from the first image to the second.",
    "How was the first image edited to get the second?",
)
#: Put behind one of the above when the answer ends with boxes.
ASK_BOX = (
    " Also give the box in the second image.",
    " Add where this is in the second image, as a box.",
    " Mark the place in the second image with a box.",
)
#: One image.
ASK_DESCRIPTION = (
    "Describe this image in detail.",
    "Write a detailed description of the image.",
    "What does this image show? Describe it in detail.",
    "Give a detailed caption for this image.",
    "Describe everything that can be seen in the image.",
)
