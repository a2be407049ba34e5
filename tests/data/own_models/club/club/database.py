import os

from sqlalchemy.orm import scoped_session, sessionmaker
from sqlmodel import create_engine

engine = create_engine(f"sqlite:///{os.environ['CLUB_DATABASE']}")
Session = scoped_session(sessionmaker(engine))
