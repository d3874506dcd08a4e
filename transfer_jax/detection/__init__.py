"""Detection by Fast R-CNN (Girshick 2015) on any network: proposals, their regions' features, a
class and a better box for each."""
