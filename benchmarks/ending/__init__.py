"""The campaign of ends: what executes, how it is ended, and what is looked at afterwards."""
