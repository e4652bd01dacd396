"""The pages under ``docs/`` that are made from the code, and the commands in all of them."""
