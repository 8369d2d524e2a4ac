// Run once by the image of MongoDB on an empty folder: the app's own user, in its own database only.
db.getSiblingDB("cafe_variome").createUser({
  user: "cafe-variome",
  pwd: process.env.CV3_MONGO_PASSWORD,
  roles: [{ role: "readWrite", db: "cafe_variome" }],
});
