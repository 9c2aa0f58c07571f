"""Face tracks with their sound: tables, crops, MFCCs, and building tracks from videos."""
