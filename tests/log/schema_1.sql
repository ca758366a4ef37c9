BEGIN TRANSACTION;
CREATE TABLE events (
  tenant TEXT NOT NULL, seq INTEGER NOT NULL, bytes INTEGER NOT NULL, time_ms INTEGER NOT NULL,
  type TEXT NOT NULL, tags TEXT NOT NULL, client_id TEXT NOT NULL, principal TEXT NOT NULL, tail TEXT NOT NULL,
  PRIMARY KEY (tenant, seq)
) WITHOUT ROWID;
INSERT INTO "events" VALUES('shop-1',2,21,1763634601000,'status_update','orderID=ORDER-1','till-3#8f2c','anna','"data":{"text": "b"}}');
INSERT INTO "events" VALUES('shop-1',3,21,1763634601000,'status_update','','','anna','"data":{"text": "c"}}');
INSERT INTO "events" VALUES('shop-1',4,29,1763634602000,'custom.type-1','orderID=A 17/ب
bayID=bay 2','','badr','"data":{"text":"طلب\u001e🚗"}}');
CREATE TABLE heads (
  tenant TEXT PRIMARY KEY, epoch TEXT NOT NULL, seq INTEGER NOT NULL, floor INTEGER NOT NULL,
  time_ms INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO "heads" VALUES('other','k3f9a2c1',0,0,0);
INSERT INTO "heads" VALUES('shop-1','k3f9a2c1',4,1,1763634602000);
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "meta" VALUES('schema','1');
CREATE TABLE outcomes (
  tenant TEXT NOT NULL, principal TEXT NOT NULL, key TEXT NOT NULL, fingerprint TEXT NOT NULL,
  result TEXT NOT NULL, expires_ms INTEGER NOT NULL, PRIMARY KEY (tenant, principal, key)
) WITHOUT ROWID;
INSERT INTO "outcomes" VALUES('shop-1','anna','k','f','k3f9a2c1.2',1764239401000);
CREATE INDEX outcomes_expiry ON outcomes (tenant, expires_ms);
COMMIT;
