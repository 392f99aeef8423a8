"""simtrain: will it fit, how fast, what will it cost, which layout, and how sure are we?"""
