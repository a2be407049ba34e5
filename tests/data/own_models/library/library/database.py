import os

from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

engine = create_async_engine(f"sqlite+aiosqlite:///{os.environ['LIBRARY_DATABASE']}")
sessions = async_sessionmaker(engine, expire_on_commit=False)
