"""The contract of events, on each store and with each driver."""

from tests.contract.event_log import EventLogContract
from tests.contract.store import OnMongoDB, OnMongoDBThroughMotor, OnSQLite


class TestSQLite(OnSQLite, EventLogContract):
    pass


class TestMongoDBThroughPyMongo(OnMongoDB, EventLogContract):
    pass


class TestMongoDBThroughMotor(OnMongoDBThroughMotor, EventLogContract):
    pass
