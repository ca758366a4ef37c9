"""The contract of documents, on each store and with each driver."""

from tests.contract.documents import DocumentsContract
from tests.contract.store import OnMongoDB, OnMongoDBThroughMotor, OnSQLite


class TestSQLite(OnSQLite, DocumentsContract):
    pass


class TestMongoDBThroughPyMongo(OnMongoDB, DocumentsContract):
    pass


class TestMongoDBThroughMotor(OnMongoDBThroughMotor, DocumentsContract):
    pass
