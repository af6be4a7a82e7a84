"""Tells people: contacts, texts, the inbox, e-mail, and the reply of step 6 with the photo of the finished work."""
